"""The changed region as a MASK."""

from ..blueprints import EDIT_IMAGE
from ..description import Box, Column, Node, Template, Text
from ..showing import BOX, FIRST, HEIGHT, NARROW, OWN_PICTURE, SENTENCES, TINY, UNDER, example, look, note, saved

TITLE = Text("Find what changed", "找出改动的区域")
MASK = Text(
    "*Source outside, edit inside* (*InstructX Composite*) gives the changed region as a MASK, for inpainting,"
    " upscaling or another edit, and keeps the source outside it.",
    "*Source outside, edit inside*（*InstructX Composite*）把改动的区域作为 MASK 输出，可用于重绘、放大或再次编辑，"
    "区域外保留原图。",
)
SOURCE = "triangle"


def find_what_changed() -> Template:
    words = {"instruction": SENTENCES[SOURCE], "seed": 9}
    return Template(
        TITLE,
        note(TITLE, MASK, OWN_PICTURE, TINY),
        (
            Column({"input": example(SOURCE)}, width=FIRST),
            Column({"edit": Box(EDIT_IMAGE, "Edit image", words)}, width=BOX),
            Column({"composite": Node("InstructXComposite", "Source outside, edit inside", {"grow": 2})}, width=250),
            Column({"before": look("Before", HEIGHT - 20), "picture": Node("MaskToImage")}, width=NARROW, top=UNDER),
            Column({"after": saved("what-changed"), "mask": look("The changed region", 300)}, width=NARROW),
        ),
        {
            "input.IMAGE": ["edit.image", "composite.source", "before.images"],
            "edit.IMAGE": ["composite.edited"],
            "composite.MASK": ["picture.mask"],
            "picture.IMAGE": ["mask.images"],
            "composite.IMAGE": ["after.images"],
        },
    )
