"""Edit inside a mask; pixels outside stay bit for bit."""

from ..blueprints import EDIT_INSIDE_A_MASK
from ..description import Box, Column, Node, Template, Text
from ..showing import BOX, FIRST, SENTENCES, SIDE, SMALL, TINY, UNDER, example, note, pictures

TITLE = Text("Edit inside a mask", "只编辑遮罩内")
PAINT = Text(
    "Outside the mask every pixel stays as it was. Here it is the right half; with **Load Image** paint your own"
    " (right click, *Open in Mask Editor*) and take its MASK.",
    "遮罩以外的像素完全不变。这里遮罩是右半边；"
    "用 **Load Image** 时可自己画（右键 *Open in Mask Editor*），取它的 MASK。",
)
SOURCE = "triangle"
WORDS = SENTENCES["ground"]


def edit_inside_a_mask() -> Template:
    box = Box(EDIT_INSIDE_A_MASK, "Edit inside a mask", {"instruction": WORDS})
    return Template(
        TITLE,
        note(TITLE, PAINT, TINY),
        (
            Column(
                {
                    "input": example(SOURCE),
                    "nothing": _mask("Nothing", 0.0, SIDE),
                    "half": _mask("The right half", 1.0, SIDE // 2),
                },
                width=FIRST,
            ),
            Column({"mask": Node("MaskComposite", "The mask", {"x": SIDE // 2, "operation": "add"})}, SMALL, top=UNDER),
            Column({"edit": box}, width=BOX),
            *pictures("mask-edit"),
        ),
        {
            "input.IMAGE": ["edit.image", "before.images"],
            "nothing.MASK": ["mask.destination"],
            "half.MASK": ["mask.source"],
            "mask.MASK": ["edit.mask"],
            "edit.IMAGE": ["after.images"],
        },
    )


def _mask(title: str, value: float, width: int) -> Node:
    return Node("SolidMask", title, {"value": value, "width": width, "height": SIDE})
