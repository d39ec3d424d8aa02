"""ComfyUI's own nodes for Bernini-R in a loop over windows."""

from ..blueprints import BERNINI
from ..description import Box, Column, Template, Text
from ..showing import FIRST, NARROW, OWN_VIDEO, example, note
from .kiwi import CLIP
from .loop_parts import LOOP, closed, loop_links, opened

TITLE = Text("Bernini over a long video", "逐窗口编辑长视频")
OWN = Text(
    "**Bernini Conditioning** takes each window's frames; the first of them is the last window's edit. Needs ComfyUI"
    " 0.33, which offers to download the weights. Not tried here with real ones.",
    "**Bernini Conditioning** 接收每个窗口的帧，第一帧是上一个窗口的编辑结果。"
    "需要 ComfyUI 0.33（会提示下载权重）；这里没有用真实权重试过。",
)
WORDS = (
    "You are a helpful assistant specialized in video editing on content propagation.\nTurn the coffee into green tea."
)


def bernini_over_a_long_video() -> Template:
    return Template(
        TITLE,
        note(TITLE, LOOP, OWN, OWN_VIDEO),
        (
            Column({"input": example(CLIP, "A clip")}, width=FIRST),
            opened(window=81, overlap=5, head="source", hold_colour=True),
            Column({"inside": Box(BERNINI, "Bernini-R", {"prompt": WORDS})}, width=NARROW),
            *closed("bernini"),
        ),
        loop_links("inside.frames", "inside.IMAGE") | {"open.seed": ["inside.seed"]},
        needs_weights=True,
    )
