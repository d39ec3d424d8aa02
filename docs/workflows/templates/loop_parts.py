"""Shared by the loop templates: the nodes that start and end a loop, its links and the note text."""

from __future__ import annotations

from typing import Any

from ..description import Column, Links, Node, Text
from ..showing import LOOK, PLAYING, UNDER, saved_clip

OPEN = 280  # the width of a column
LOOP = Text(
    "The nodes between *Each window* (**Window Open**) and *The whole video* (**Window Close**) run once for each"
    " window; memory holds one window, whatever the length. **Cancel**, a crash or a restart keeps finished windows;"
    " **Run** continues from them.",
    "*Each window*（**窗口开始**）与 *The whole video*（**窗口结束**）之间的节点对每个窗口运行一次；无论多长，"
    "内存只放一个窗口。"
    "**取消**、崩溃或重启都会保留已完成的窗口，再次 **运行** 接着做。",
)


def opened(**settings: Any) -> Column:
    return Column({"open": Node("InstructXWindowOpen", "Each window", settings)}, width=OPEN)


def closed(name: str) -> tuple[Column, Column]:
    """The clips before and after the loop, and its end, with free space below for the window that it shows."""
    before = saved_clip(f"{name}-source", "Before", PLAYING)
    close = Node("InstructXWindowClose", "The whole video")
    return (
        Column({"before": before, "close": close}, width=LOOK, top=UNDER),
        Column({"after": saved_clip(name)}, width=LOOK),
    )


def loop_links(takes: str, gives: str) -> Links:
    """Links from the input to the saved video, through nodes that take frames at `takes` and give them at `gives`."""
    return {
        "input.VIDEO": ["open.source", "before.video"],
        "open.frames": [takes],
        gives: ["close.image"],
        "open.FLOW": ["close.flow"],
        "close.VIDEO": ["after.video"],
    }
