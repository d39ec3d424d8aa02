"""Measure what an edit changed and what it preserved, in numbers and as a picture."""

from ..blueprints import EDIT_IMAGE
from ..description import Box, Column, Node, Template, Text
from ..showing import BOX, FIRST, LOOK, LOWER, OWN_PICTURE, SENTENCES, TINY, example, look, note, saved

TITLE = Text("Measure an edit", "测量编辑结果")
NUMBERS = Text(
    "*Source against edit* (*InstructX Measure*): how well the rest was kept (PSNR, SSIM), and how much of all change"
    " lies where it belongs (exclusivity). Green: there; red: elsewhere. A **mask** makes it exact.",
    "*Source against edit*（*InstructX Measure*）：其余部分保留得如何（PSNR、SSIM），"
    "变化有多少落在应改之处（exclusivity）。"
    "绿色：应改之处；红色：其他地方。连接 **mask** 更准确。",
)
SOURCE = "triangle"


def measure_an_edit() -> Template:
    before = {"before": look("Before", LOWER)}
    return Template(
        TITLE,
        note(TITLE, NUMBERS, OWN_PICTURE, TINY),
        (
            Column({"input": example(SOURCE)}, width=FIRST),
            Column({"edit": Box(EDIT_IMAGE, "Edit image", {"instruction": SENTENCES[SOURCE], "seed": 9})}, width=BOX),
            Column({"measure": Node("InstructXMeasure", "Source against edit", {}, LOWER), **before}, width=LOOK),
            Column({"difference": look("What changed", LOWER), "after": saved("measured", LOWER)}, width=LOOK),
        ),
        {
            "input.IMAGE": ["edit.image", "measure.source", "before.images"],
            "edit.IMAGE": ["measure.edited", "after.images"],
            "measure.IMAGE": ["difference.images"],
        },
    )
