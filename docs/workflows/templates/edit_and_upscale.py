"""The edit, then an upscaling model."""

from ..blueprints import EDIT_IMAGE
from ..description import Box, Column, Node, Template, Text
from ..showing import BOX, SMALL, TINY, example, note, picture, saved_picture, weights

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


def edit_and_upscale() -> Template:
    loads = Node("UpscaleModelLoader", "Real-ESRGAN", {"model_name": ESRGAN[0]["name"]}, models=ESRGAN)
    box = Box(EDIT_IMAGE, "Edit image", {"instruction": "make the background teal"})
    return Template(
        TITLE,
        note(TITLE, ANY, TINY),
        (
            Column({"input": example("background", 3), "model": loads}, width=300),
            Column({"edit": box}, width=BOX),
            Column({"upscale": Node("ImageUpscaleWithModel", "Four times as large")}, width=SMALL),
            picture("Before"),
            saved_picture("edit-upscale"),
        ),
        {
            "input.IMAGE": ["edit.image", "before.images"],
            "edit.IMAGE": ["upscale.image"],
            "model.UPSCALE_MODEL": ["upscale.upscale_model"],
            "upscale.IMAGE": ["after.images"],
        },
        needs_weights=True,
    )
