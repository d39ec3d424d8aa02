"""Edit real footage with Kiwi-Edit, up to its training length."""

from ..blueprints import EDIT_VIDEO
from ..description import Box, Column, Template, Text
from ..showing import BOX, FIRST, OWN_VIDEO, clips, example, note
from .kiwi import CLIP, INSTRUCT, MEMORY, files, folder, how

TITLE = Text("Kiwi-Edit, a video", "编辑真实视频")
LENGTH = Text(
    "Up to 81 frames at about 832 x 480 in one go. For more use the box *Edit long video (InstructX)*.",
    "一次最多 81 帧，约 832 x 480。更长请用 *Edit long video (InstructX)*。",
)


def kiwi_video() -> Template:
    settings = {"instruction": "Turn the coffee into green tea.", "model_name": folder(INSTRUCT)}
    return Template(
        TITLE,
        note(TITLE, LENGTH, OWN_VIDEO, how(INSTRUCT), MEMORY),
        (
            Column({"input": example(CLIP, "A clip")}, width=FIRST),
            Column({"edit": Box(EDIT_VIDEO, "Edit video", settings, models=files(INSTRUCT))}, width=BOX),
            *clips("kiwi-video"),
        ),
        {"input.VIDEO": ["edit.video", "before.video"], "edit.VIDEO": ["after.video"]},
        needs_weights=True,
    )
