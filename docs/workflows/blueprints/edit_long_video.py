"""Edit long video: window by window, from file to file."""

from ..description import Blueprint, Column
from ..parts import node

EDIT_LONG_VIDEO = Blueprint(
    name="Edit long video (InstructX)",
    description=(
        "Edit a video of any length from a sentence, window by window: memory holds one window, and Cancel keeps the"
        " finished ones."
    ),
    aliases=("edit video", "long video", "instruct", "video to video", "kiwi", "wan", "instructx"),
    category="Video generation and editing/Edit video",
    columns=(
        Column({"load": node("InstructXLoadModel", "1. The model")}),
        Column({"windows": node("InstructXSlidingWindow", "2. Edit, hand over, edit on")}, width=400),
    ),
    links={
        "load.MODEL": ["windows.model"],
        "load.VAE": ["windows.vae"],
        "load.MLLM": ["windows.mllm"],
        "load.CONNECTOR": ["windows.connector"],
    },
    inputs={
        "video": ("windows.source",),
        "reference": ("windows.reference",),
        "mask": ("windows.mask",),
        "instruction": ("windows.instruction",),
        "model_name": ("load.model_name",),
        "window": ("windows.window",),
        "overlap": ("windows.overlap",),
        "seed": ("windows.seed",),
        "edit_strength": ("windows.edit_strength",),
    },
    outputs={"VIDEO": "windows.VIDEO"},
)
