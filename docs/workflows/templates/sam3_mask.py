"""One text says where to edit (SAM3 makes the mask), another says what."""

from ..blueprints import EDIT_INSIDE_A_MASK
from ..description import Box, Column, Node, Template, Text
from ..native import SAM3
from ..showing import BOX, FIRST, SENTENCES, SMALL, TINY, below, example, note

TITLE = Text("SAM3 mask, edit only there", "文字定位遮罩")
WHERE = Text(
    "*What SAM3 looks for* becomes the mask; the sentence changes only that. Needs ComfyUI 0.33 and SAM3's checkpoint,"
    " which ComfyUI offers to download.",
    "*What SAM3 looks for* 里的词成为遮罩，句子只改这里。需要 ComfyUI 0.33 和 SAM3 的权重（ComfyUI 会提示下载）。",
)
SOURCE = "coffee"


def sam3_mask() -> Template:
    box = Box(EDIT_INSIDE_A_MASK, "Edit inside a mask", {"instruction": SENTENCES[SOURCE]})
    loads = Node("CheckpointLoaderSimple", "SAM3", {"ckpt_name": SAM3[0]["name"]}, models=SAM3)
    words = Node("CLIPTextEncode", "What SAM3 looks for", {"text": "cup"}, 130)
    return Template(
        TITLE,
        note(TITLE, WHERE, TINY),
        (
            Column({"input": example(SOURCE), "sam": loads}, width=FIRST),
            Column({"words": words}, width=SMALL),
            Column({"detect": Node("SAM3_Detect", "Where it is")}, width=SMALL),
            *below({"edit": box}, "sam3", BOX),
        ),
        {
            "input.IMAGE": ["edit.image", "detect.image", "before.images"],
            "sam.MODEL": ["detect.model"],
            "sam.CLIP": ["words.clip"],
            "words.CONDITIONING": ["detect.conditioning"],
            "detect.masks": ["edit.mask"],
            "edit.IMAGE": ["after.images"],
        },
        needs_weights=True,
    )
