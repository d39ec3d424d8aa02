"""Edit with reference: the sentence mentions a subject from another picture."""

from ..description import Blueprint
from ..parts import WIDGETS, stations

COLUMNS, LINKS = stations(reference=True)
EDIT_WITH_REFERENCE = Blueprint(
    name="Edit with reference (InstructX)",
    description="Edit a picture or a video with a subject from another picture: add it, or replace something with it.",
    aliases=("edit image", "edit video", "instruct", "reference", "subject", "kiwi", "instructx"),
    category="Image generation and editing/Edit image",
    columns=COLUMNS,
    links=LINKS,
    inputs={"source": ("fit.source",), "reference": ("guidance.reference", "reference.reference"), **WIDGETS},
    outputs={"IMAGE": "restore.IMAGE", "VIDEO": "restore.VIDEO"},
)
