"""Edit everything but the subject."""

from ..blueprints import EDIT_INSIDE_A_MASK
from ..description import Box, Column, Node, Template, Text
from ..showing import BOX, FIRST, SENTENCES, SMALL, TINY, below, example, note, weights

TITLE = Text("Keep the subject, change the rest", "保留主体，改变其余")
WHERE = Text(
    "*The subject* (*Remove Background*) finds it; everything else is the mask. Needs ComfyUI 0.33 and BiRefNet, which"
    " ComfyUI offers to download.",
    "*The subject*（*Remove Background*）找出主体，其余部分就是遮罩。需要 ComfyUI 0.33 和 BiRefNet（ComfyUI"
    " 会提示下载）。",
)
BIREFNET = weights(
    "birefnet.safetensors",
    "https://huggingface.co/Comfy-Org/BiRefNet/resolve/main/background_removal/birefnet.safetensors",
    "background_removal",
)
SOURCE = "cat"


def keep_the_subject() -> Template:
    box = Box(EDIT_INSIDE_A_MASK, "Edit inside a mask", {"instruction": SENTENCES[SOURCE]})
    loads = Node("LoadBackgroundRemovalModel", "BiRefNet", {"bg_removal_name": BIREFNET[0]["name"]}, models=BIREFNET)
    return Template(
        TITLE,
        note(TITLE, WHERE, TINY),
        (
            Column({"input": example(SOURCE), "birefnet": loads}, width=FIRST),
            Column({"subject": Node("RemoveBackground", "The subject")}, width=SMALL),
            Column({"rest": Node("InvertMask", "The rest")}, width=SMALL),
            *below({"edit": box}, "keep-subject", BOX),
        ),
        {
            "input.IMAGE": ["edit.image", "subject.image", "before.images"],
            "birefnet.bg_model": ["subject.bg_removal_model"],
            "subject.mask": ["rest.mask"],
            "rest.MASK": ["edit.mask"],
            "edit.IMAGE": ["after.images"],
        },
        needs_weights=True,
    )
