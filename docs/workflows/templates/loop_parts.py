"""What templates of loops share: where one begins and ends, and what is said of it."""

from __future__ import annotations

from typing import Any

from ..description import Column, Links, Node, Text
from ..showing import clips_below

OPEN = 280  # the width of a column
CLOSED = 340  # the height of a loop's end while it shows its window, in the classic canvas
LOOP = Text(
    "What stands between **Window Open** and **Window Close** runs once for each window; memory holds one window,"
    " whatever the length. **Cancel**, a crash or a restart keeps finished windows; **Run** goes on from them.",
    "**窗口开始** 与 **窗口结束** 之间的节点对每个窗口运行一次；无论多长，内存只放一个窗口。"
    "**取消**、崩溃或重启都会保留已完成的窗口，再次 **运行** 接着做。",
)


def opened(**settings: Any) -> Column:
    return Column({"open": Node("InstructXWindowOpen", "Each window", settings)}, width=OPEN)


def closed(name: str) -> tuple[Column, Column]:
    """The end of the loop, and the clips before and after it."""
    return clips_below({"close": Node("InstructXWindowClose", "The whole video", height=CLOSED)}, name)


def loop_links(takes: str, gives: str) -> Links:
    """From the input to the saved video, through nodes that take frames at `takes` and give them at `gives`."""
    return {
        "input.VIDEO": ["open.source", "before.video"],
        "open.frames": [takes],
        gives: ["close.image"],
        "open.FLOW": ["close.flow"],
        "close.VIDEO": ["after.video"],
    }
