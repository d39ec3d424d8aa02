"""An upscaling model in a loop over windows."""

from ..description import Column, Node, Template, Text
from ..showing import FIRST, OWN_VIDEO, SMALL, example, note
from .edit_and_upscale import ESRGAN
from .loop_parts import LOOP, closed, loop_links, opened

TITLE = Text("Upscale a long video", "放大长视频")
ONCE = Text(
    "The model is loaded once. ComfyUI offers to download Real-ESRGAN; any upscaling model works.",
    "模型只加载一次。ComfyUI 会提示下载 Real-ESRGAN，任何放大模型都可以。",
)


def upscale_a_long_video() -> Template:
    loads = Node("UpscaleModelLoader", "Real-ESRGAN", {"model_name": ESRGAN[0]["name"]}, models=ESRGAN)
    return Template(
        TITLE,
        note(TITLE, LOOP, ONCE, OWN_VIDEO),
        (
            Column({"input": example("long clip"), "model": loads}, width=FIRST),
            opened(window=8, overlap=0),
            Column({"inside": Node("ImageUpscaleWithModel", "Four times as large")}, width=SMALL),
            *closed("upscaled-video"),
        ),
        loop_links("inside.image", "inside.IMAGE") | {"model.UPSCALE_MODEL": ["inside.upscale_model"]},
        needs_weights=True,
    )
