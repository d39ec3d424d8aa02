"""Qwen-Image-Edit, an image editor, in a loop over windows: every frame follows the edited first frame."""

from ..blueprints import QWEN
from ..description import Box, Column, Template, Text
from ..showing import FIRST, NARROW, OWN_VIDEO, example, note
from .kiwi import CLIP
from .loop_parts import LOOP, closed, loop_links, opened

TITLE = Text("Edit frames like the first one", "按首帧逐帧编辑")
FIRST_FRAME = Text(
    "The first frame is edited once, outside the loop; each frame inside is then edited to look like it. ComfyUI"
    " offers to download the weights. Not tried here with real ones.",
    "首帧在循环外编辑一次，循环内的每一帧再按它的样子编辑。ComfyUI 会提示下载权重；这里没有用真实权重试过。",
)


def frames_like_the_first() -> Template:
    links = loop_links("inside.frames", "inside.IMAGE")
    links["input.VIDEO"].append("inside.video")
    return Template(
        TITLE,
        note(TITLE, LOOP, FIRST_FRAME, OWN_VIDEO),
        (
            Column({"input": example(CLIP, "A clip")}, width=FIRST),
            opened(window=16, overlap=0),
            Column(
                {"inside": Box(QWEN, "Frames like the first one", {"prompt": "Make it a watercolour."})}, width=NARROW
            ),
            *closed("like-the-first"),
        ),
        links,
        needs_weights=True,
    )
