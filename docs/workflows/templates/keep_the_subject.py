"""Everything but the subject changes."""

from ..blueprints import EDIT_INSIDE_A_MASK
from ..description import Box, Column, Node, Template, Text
from ..showing import BOX, SMALL, TINY, example, note, picture, saved_picture, weights

TITLE = Text("Keep the subject, change the rest", "保留主体，改变其余")
WHERE = Text(
    "*Remove Background* finds the subject; everything else is the mask. Needs ComfyUI 0.33 and BiRefNet, which ComfyUI"
    " offers to download.",
    "*Remove Background* 找出主体，其余部分就是遮罩。需要 ComfyUI 0.33 和 BiRefNet（ComfyUI 会提示下载）。",
)
BIREFNET = weights(
    "birefnet.safetensors",
    "https://huggingface.co/Comfy-Org/BiRefNet/resolve/main/background_removal/birefnet.safetensors",
    "background_removal",
)


def keep_the_subject() -> Template:
    box = Box(EDIT_INSIDE_A_MASK, "Edit inside a mask", {"instruction": "make the background teal"})
    loads = Node("LoadBackgroundRemovalModel", "BiRefNet", {"bg_removal_name": BIREFNET[0]["name"]}, models=BIREFNET)
    return Template(
        TITLE,
        note(TITLE, WHERE, TINY),
        (
            Column({"input": example("background", 3), "birefnet": loads}, width=300),
            Column({"subject": Node("RemoveBackground", "The subject")}, width=SMALL),
            Column({"rest": Node("InvertMask", "The rest")}, width=SMALL),
            Column({"edit": box}, width=BOX),
            picture("Before", 290),
            saved_picture("keep-subject", width=290),
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
