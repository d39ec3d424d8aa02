"""One edit after the other."""

from ..blueprints import EDIT_IMAGE
from ..description import Box, Column, Template, Text
from ..showing import FIRST, HEIGHT, NARROW, OWN_PICTURE, SENTENCES, TINY, before, example, look, note, saved

TITLE = Text("Two edits in a row", "连续两次编辑")
CHAIN = Text("The first result is what the second sentence edits.", "第一次的结果就是第二句话要编辑的图片。")
BOX = 290  # narrower, because there are two
SOURCE = "ground"


def two_edits() -> Template:
    boxes = [Box(EDIT_IMAGE, title, {"instruction": words}) for title, words in WORDS.items()]
    return Template(
        TITLE,
        note(TITLE, CHAIN, OWN_PICTURE, TINY),
        (
            Column({"input": example(SOURCE)}, width=FIRST),
            Column({"first": boxes[0]}, width=BOX),
            Column({"second": boxes[1], "between": look("Between", 330)}, width=BOX),
            before(look("Before", HEIGHT - 20), NARROW),
            Column({"after": saved("two-edits")}, width=NARROW),
        ),
        {
            "input.IMAGE": ["first.image", "before.images"],
            "first.IMAGE": ["second.image", "between.images"],
            "second.IMAGE": ["after.images"],
        },
    )


WORDS = {"First edit": SENTENCES[SOURCE], "Second edit": "make the blue square red"}
