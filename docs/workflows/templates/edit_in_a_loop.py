"""This pack's own edit in a loop over windows: what Sliding Window does, with every node visible."""

from ..blueprints import EDIT_IMAGE
from ..description import Box, Column, Template, Text
from ..showing import FIRST, NARROW, OWN_VIDEO, SENTENCES, TINY, example, note
from .loop_parts import LOOP, closed, loop_links, opened

TITLE = Text("Edit a long video in a loop", "在循环中编辑长视频")
HEAD = Text(
    "Each window begins with the first shared frame as the last window edited it (*head*: source), and fades in over"
    " the others. Add nodes before or after the box that *Edit long video* has no room for.",
    "每个窗口以上一个窗口编辑后的第一个共有帧开始（*head*: source），并在其余共有帧中过渡。"
    "*Edit long video* 放不下的节点可以接在盒子前后。",
)
SOURCE = "long clip"


def edit_in_a_loop() -> Template:
    settings = {"instruction": SENTENCES[SOURCE]}
    return Template(
        TITLE,
        note(TITLE, LOOP, HEAD, OWN_VIDEO, TINY),
        (
            Column({"input": example(SOURCE)}, width=FIRST),
            opened(window=9, overlap=5, head="source", hold_colour=True),
            Column({"inside": Box(EDIT_IMAGE, "Edit frames", settings)}, width=NARROW),
            *closed("edited-in-a-loop"),
        ),
        loop_links("inside.image", "inside.IMAGE"),
    )
