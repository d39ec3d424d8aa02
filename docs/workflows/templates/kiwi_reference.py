"""Put a subject from a picture into real footage with Kiwi-Edit."""

from ..blueprints import EDIT_WITH_REFERENCE
from ..description import Box, Column, Template, Text
from ..showing import BOX, FIRST, OWN_VIDEO, clips, example, note
from .kiwi import CLIP, MEMORY, REFERENCE, files, folder, how

TITLE = Text("Kiwi-Edit, reference on a video", "真实视频加参考图")


def kiwi_reference() -> Template:
    words = "Add the cat of the reference image beside the cup."
    settings = {"instruction": words, "model_name": folder(REFERENCE)}
    box = Box(EDIT_WITH_REFERENCE, "Edit with reference", settings, models=files(REFERENCE))
    cat = example("cat", "The reference")
    return Template(
        TITLE,
        note(TITLE, OWN_VIDEO, how(REFERENCE), MEMORY),
        (
            Column({"input": example(CLIP, "A clip"), "reference": cat}, width=FIRST),
            Column({"edit": box}, width=BOX),
            *clips("kiwi-reference"),
        ),
        {
            "input.VIDEO": ["edit.source", "before.video"],
            "reference.IMAGE": ["edit.reference"],
            "edit.VIDEO": ["after.video"],
        },
        needs_weights=True,
    )
