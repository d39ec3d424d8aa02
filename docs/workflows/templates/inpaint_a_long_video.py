"""ComfyUI's own nodes for SAM3 and VACE in a loop over windows."""

from ..blueprints import VACE
from ..description import Box, Column, Template, Text
from ..showing import FIRST, NARROW, OWN_VIDEO, example, note
from .kiwi import CLIP
from .loop_parts import LOOP, closed, loop_links, opened

TITLE = Text("Inpaint a long video", "长视频局部重绘")
TRACKED = Text(
    "In each window SAM3 tracks *look for*, and VACE repaints it. The shared frames are edited already, and **Window"
    " Open** marks them as *held*. Needs ComfyUI 0.33, which offers to download the weights. Not tried here with real"
    " ones.",
    "在每个窗口中 SAM3 跟踪 *look for*，VACE 把它重绘。共有帧已经编辑过，**窗口开始** 以 *held* 标出。"
    "需要 ComfyUI 0.33（会提示下载权重）；这里没有用真实权重试过。",
)


def inpaint_a_long_video() -> Template:
    settings = {"look for": "coffee", "prompt": "A cup of green tea."}
    return Template(
        TITLE,
        note(TITLE, LOOP, TRACKED, OWN_VIDEO),
        (
            Column({"input": example(CLIP, "A clip")}, width=FIRST),
            opened(window=81, overlap=5, head="mask", hold_colour=True),
            Column({"inside": Box(VACE, "Track and repaint", settings)}, width=NARROW),
            *closed("inpainted-video"),
        ),
        loop_links("inside.frames", "inside.IMAGE") | {"open.held": ["inside.held"], "open.seed": ["inside.seed"]},
        needs_weights=True,
    )
