"""One edit after the other."""

from ..blueprints import EDIT_IMAGE
from ..description import Box, Column, Template, Text
from ..showing import BOX, FIRST, LOOK, OWN_PICTURE, TINY, example, look, note, saved_picture

TITLE = Text("Two edits in a row", "连续两次编辑")
CHAIN = Text("The first result is what the second sentence edits.", "第一次的结果就是第二句话要编辑的图片。")


def two_edits() -> Template:
    boxes = [Box(EDIT_IMAGE, title, {"instruction": words}) for title, words in WORDS.items()]
    return Template(
        TITLE,
        note(TITLE, CHAIN, OWN_PICTURE, TINY),
        (
            Column({"input": example("recolor", 7)}, width=FIRST),
            Column({"first": boxes[0]}, width=BOX),
            Column({"second": boxes[1]}, width=BOX),
            Column({"before": look("Before"), "between": look("Between", 330)}, width=LOOK),
            saved_picture("two-edits"),
        ),
        {
            "input.IMAGE": ["first.image", "before.images"],
            "first.IMAGE": ["second.image", "between.images"],
            "second.IMAGE": ["after.images"],
        },
    )


WORDS = {"First edit": "make the background teal", "Second edit": "change the yellow circle to red"}
