"""Edit, then upscale with an upscaling model."""

from ..blueprints import EDIT_IMAGE
from ..description import Box, Column, Node, Template, Text
from ..showing import BOX, FIRST, SENTENCES, TINY, below, example, note, weights

TITLE = Text("Edit, then upscale", "编辑后放大")
ANY = Text(
    "The edit comes back at the picture's own size; any upscaling model follows. ComfyUI offers to download"
    " Real-ESRGAN.",
    "编辑结果保持原图尺寸，之后可接任何放大模型。ComfyUI 会提示下载 Real-ESRGAN。",
)
ESRGAN = weights(
    "RealESRGAN_x4plus.safetensors",
    "https://huggingface.co/Comfy-Org/Real-ESRGAN_repackaged/resolve/main/RealESRGAN_x4plus.safetensors",
    "upscale_models",
)
SOURCE = "cat"


def edit_and_upscale() -> Template:
    loads = Node("UpscaleModelLoader", "Real-ESRGAN", {"model_name": ESRGAN[0]["name"]}, models=ESRGAN)
    box = Box(EDIT_IMAGE, "Edit image", {"instruction": SENTENCES[SOURCE]})
    return Template(
        TITLE,
        note(TITLE, ANY, TINY),
        (
            Column({"input": example(SOURCE), "model": loads}, width=FIRST),
            Column({"edit": box}, width=BOX),
            *below({"upscale": Node("ImageUpscaleWithModel", "Four times as large")}, "edit-upscale"),
        ),
        {
            "input.IMAGE": ["edit.image", "before.images"],
            "edit.IMAGE": ["upscale.image"],
            "model.UPSCALE_MODEL": ["upscale.upscale_model"],
            "upscale.IMAGE": ["after.images"],
        },
        needs_weights=True,
    )
