"""Edit a part of a large picture at the model's own size."""

from ..blueprints import EDIT_IMAGE
from ..description import Box, Column, Node, Template, Text
from ..showing import BOX, NARROW, OWN_PICTURE, SENTENCES, SMALL, TINY, below, example, note

TITLE = Text("Crop, edit, put back", "裁剪编辑后贴回")
WHY = Text(
    "A part of a large picture is edited at the model's own size and put back: outside it no bit changes. *Left* and"
    " *Top* place it, *Cut out* has its size.",
    "只把大图的一部分裁下来，按模型的尺寸编辑后贴回：区域外一个比特都不变。"
    "*Left* 和 *Top* 决定位置，*Cut out* 决定大小。",
)
SOURCE, PART = "large", 384


def crop_edit_stitch() -> Template:
    words = {"instruction": SENTENCES[SOURCE], "seed": 1}
    return Template(
        TITLE,
        note(TITLE, WHY, OWN_PICTURE, TINY),
        (
            Column(
                {
                    "input": example(SOURCE),
                    "left": Node("PrimitiveInt", "Left", {"value": 128}),
                    "top": Node("PrimitiveInt", "Top", {"value": 0}),
                },
                width=NARROW,
            ),
            Column({"cut": Node("ImageCrop", "Cut out", {"width": PART, "height": PART})}, width=SMALL),
            Column({"edit": Box(EDIT_IMAGE, "Edit image", words)}, width=BOX),
            *below({"paste": Node("ImageCompositeMasked", "Put back")}, "crop-edit"),
        ),
        {
            "input.IMAGE": ["cut.image", "paste.destination", "before.images"],
            "left.INT": ["cut.x", "paste.x"],
            "top.INT": ["cut.y", "paste.y"],
            "cut.IMAGE": ["edit.image"],
            "edit.IMAGE": ["paste.source"],
            "paste.IMAGE": ["after.images"],
        },
    )
