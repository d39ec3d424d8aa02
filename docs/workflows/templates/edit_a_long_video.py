"""Edit a long video window by window, from file to file."""

from ..blueprints import EDIT_LONG_VIDEO
from ..description import Box, Column, Template, Text
from ..showing import BOX, FIRST, OWN_VIDEO, SENTENCES, TINY, clips, example, note

TITLE = Text("Edit a long video", "编辑长视频")
WINDOWS = Text(
    "Each window begins with the edited end of the last one. With **Load Video** in front it streams: memory holds one"
    " window. **Cancel** keeps finished windows; **Run** continues from them.",
    "每个窗口从上一个窗口编辑好的结尾开始。前面接 **Load Video** 时逐窗读取，内存只放一个窗口。"
    "**取消** 会保留已完成的窗口，再次 **运行** 接着做。",
)
SOURCE = "long clip"


def edit_a_long_video() -> Template:
    settings = {"instruction": SENTENCES[SOURCE], "window": 9, "overlap": 5}
    return Template(
        TITLE,
        note(TITLE, WINDOWS, OWN_VIDEO, TINY),
        (
            Column({"input": example(SOURCE)}, width=FIRST),
            Column({"edit": Box(EDIT_LONG_VIDEO, "Edit long video", settings)}, width=BOX),
            *clips("long-edit"),
        ),
        {"input.VIDEO": ["edit.video", "before.video"], "edit.VIDEO": ["after.video"]},
    )
