"""Put a subject from a picture into a clip."""

from ..blueprints import EDIT_WITH_REFERENCE
from ..description import Box, Column, Template, Text
from ..showing import BOX, FIRST, OWN_VIDEO, SENTENCES, TINY, clips, example, look, note

TITLE = Text("Reference on a video", "参考图编辑视频")
SAME = Text("The same box takes a picture or a video.", "同一个盒子既能接图片也能接视频。")
SOURCE = "swapped"


def reference_on_a_video() -> Template:
    return Template(
        TITLE,
        note(TITLE, SAME, OWN_VIDEO, TINY),
        (
            Column({"input": example(SOURCE)}, width=FIRST),
            Column(
                {
                    "edit": Box(EDIT_WITH_REFERENCE, "Edit with reference", {"instruction": SENTENCES[SOURCE]}),
                    "reference": look("The reference", 290),
                },
                width=BOX,
            ),
            *clips("reference-video"),
        ),
        {
            "input.VIDEO": ["edit.source", "before.video"],
            "input.reference": ["edit.reference", "reference.images"],
            "edit.VIDEO": ["after.video"],
        },
    )
