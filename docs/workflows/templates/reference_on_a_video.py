"""A subject from a picture into a clip."""

from ..blueprints import EDIT_WITH_REFERENCE
from ..description import Box, Column, Template, Text
from ..showing import BOX, FIRST, OWN_VIDEO, TINY, WIDE, clip, example, look, note

TITLE = Text("Reference on a video", "参考图编辑视频")
SAME = Text("The same box takes a picture or a video.", "同一个盒子既能接图片也能接视频。")


def reference_on_a_video() -> Template:
    words = "replace the purple square with the object in the reference image"
    return Template(
        TITLE,
        note(TITLE, SAME, OWN_VIDEO, TINY),
        (
            Column({"input": example("reference_swap", 1, frames=9, width=WIDE)}, width=FIRST),
            Column(
                {
                    "edit": Box(EDIT_WITH_REFERENCE, "Edit with reference", {"instruction": words}),
                    "reference": look("The reference", 300),
                },
                width=BOX,
            ),
            clip("Before", "reference-video-source"),
            clip("After", "reference-video"),
        ),
        {
            "input.VIDEO": ["edit.source", "before.video"],
            "input.reference": ["edit.reference", "reference.images"],
            "edit.VIDEO": ["after.video"],
        },
    )
