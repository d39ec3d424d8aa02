"""Stock nodes in a loop over windows."""

from ..description import Column, Node, Template, Text
from ..showing import FIRST, OWN_VIDEO, SMALL, example, note
from .loop_parts import LOOP, closed, loop_links, opened

TITLE = Text("Any nodes over a long video", "让长视频通过任意节点")
HERE = Text(
    "Replace *Any nodes*, which inverts colours, with your own nodes: a filter, an upscaler, an image editor.",
    "*Any nodes* 只是反转颜色，把它换成自己的节点：滤镜、放大或图片编辑。",
)


def any_nodes() -> Template:
    return Template(
        TITLE,
        note(TITLE, LOOP, HERE, OWN_VIDEO),
        (
            Column({"input": example("long clip")}, width=FIRST),
            opened(window=9, overlap=0),
            Column({"inside": Node("ImageInvert", "Any nodes")}, width=SMALL),
            *closed("any-nodes"),
        ),
        loop_links("inside.image", "inside.IMAGE"),
    )
