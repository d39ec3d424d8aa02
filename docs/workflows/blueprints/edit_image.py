"""Edit image: edit a picture from a sentence."""

from ..description import Blueprint
from ..parts import WIDGETS, stations

COLUMNS, LINKS = stations()
EDIT_IMAGE = Blueprint(
    name="Edit image (InstructX)",
    description="Edit a picture from a sentence: say what to change, the rest stays.",
    aliases=("edit image", "instruct", "instruct pix2pix", "image to image", "kiwi", "instructx"),
    category="Image generation and editing/Edit image",
    columns=COLUMNS,
    links=LINKS,
    inputs={"image": ("fit.source",), **WIDGETS},
    outputs={"IMAGE": "restore.IMAGE"},
)
