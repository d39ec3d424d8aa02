"""Match colours to a picture in a loop over windows."""

from ..description import Column, Node, Template, Text
from ..showing import FIRST, NARROW, OWN_VIDEO, example, note
from .loop_parts import LOOP, closed, loop_links, opened

TITLE = Text("Match colours over a long video", "统一长视频的颜色")
REFERENCE = Text(
    "Every window takes the colours of one picture. Window Open's *hold_colour* stays off, for it would undo that."
    " Needs ComfyUI 0.33.",
    "每个窗口都采用同一张图片的颜色。窗口开始的 *hold_colour* 保持关闭，否则会抵消这一效果。需要 ComfyUI 0.33。",
)


def match_colours() -> Template:
    matching = {"method": "reinhard_lab", "source_stats": "per_frame", "strength": 1.0}
    return Template(
        TITLE,
        note(TITLE, LOOP, REFERENCE, OWN_VIDEO),
        (
            Column(
                {
                    "input": example("long clip"),
                    "reference": example("ground", "Whose colours"),
                },
                width=FIRST,
            ),
            opened(window=9, overlap=0),
            Column({"inside": Node("ColorTransfer", "Colours of the picture", matching)}, width=NARROW),
            *closed("matched-video"),
        ),
        loop_links("inside.image_target", "inside.image") | {"reference.IMAGE": ["inside.image_ref"]},
    )
