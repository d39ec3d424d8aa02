"""A subject from a picture into footage."""

from ..blueprints import EDIT_WITH_REFERENCE
from ..description import Box, Column, Node, Template, Text
from ..showing import BOX, FIRST, clip, note
from .kiwi import MEMORY, REFERENCE, files, folder, how

TITLE = Text("Kiwi-Edit, reference on a video", "真实视频加参考图")


def kiwi_reference() -> Template:
    words = "Add the hat of the reference to the person's head."
    settings = {"instruction": words, "model_name": folder(REFERENCE)}
    box = Box(EDIT_WITH_REFERENCE, "Edit with reference", settings, models=files(REFERENCE))
    return Template(
        TITLE,
        note(TITLE, how(REFERENCE), MEMORY),
        (
            Column({"input": Node("LoadVideo", "Your video", {"file": "your-video.mp4"}, 400)}, width=FIRST),
            Column({"reference": Node("LoadImage", "The reference", {"image": "example.png"}, 400)}, width=260),
            Column({"edit": box}, width=BOX),
            clip("Before", "kiwi-reference-source"),
            clip("After", "kiwi-reference"),
        ),
        {
            "input.VIDEO": ["edit.source", "before.video"],
            "reference.IMAGE": ["edit.reference"],
            "edit.VIDEO": ["after.video"],
        },
        needs_weights=True,
    )
