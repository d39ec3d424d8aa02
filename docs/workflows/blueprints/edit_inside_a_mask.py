"""Edit inside a mask: the sampler changes only the masked part, and pixels outside stay bit for bit."""

from ..description import Blueprint
from ..parts import WIDGETS, stations

COLUMNS, LINKS = stations(mask=True)
EDIT_INSIDE_A_MASK = Blueprint(
    name="Inpaint, edit inside a mask (InstructX)",
    description="Edit a picture only inside a mask. Outside it every pixel stays as it was.",
    aliases=("inpaint", "mask", "segment", "edit image", "instruct", "instructx"),
    category="Image generation and editing/Inpaint image",
    columns=COLUMNS,
    links=LINKS,
    inputs={"image": ("fit.source",), "mask": ("source.mask", "restore.mask"), **WIDGETS},
    outputs={"IMAGE": "restore.IMAGE"},
)
