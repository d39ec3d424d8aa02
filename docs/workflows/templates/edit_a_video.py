"""Edit a short clip in one go."""

from ..blueprints import EDIT_VIDEO
from ..description import App, Box, Column, Template, Text
from ..showing import BOX, FIRST, OWN_VIDEO, SENTENCES, TINY, clips, example, note

TITLE = Text("Edit a video", "编辑视频")
KEPT = Text(
    "Frame rate, length and sound stay. For long videos open *Edit a long video*.",
    "帧率、长度和声音保持不变。长视频请打开 *Edit a long video*。",
)
SOURCE = "footage"


def edit_a_video() -> Template:
    return Template(
        TITLE,
        note(TITLE, KEPT, OWN_VIDEO, TINY),
        (
            Column({"input": example(SOURCE)}, width=FIRST),
            Column({"edit": Box(EDIT_VIDEO, "Edit video", {"instruction": SENTENCES[SOURCE]})}, width=BOX),
            *clips("video-edit"),
        ),
        {"input.VIDEO": ["edit.video", "before.video"], "edit.VIDEO": ["after.video"]},
        app=App(("edit.instruction", "input.example", "edit.seed"), ("after",)),
    )
