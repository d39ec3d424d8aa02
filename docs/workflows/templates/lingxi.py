"""UniGen-LingXi, a relative of Kiwi-Edit that needs the task as a prefix of the sentence."""

from ..blueprints import EDIT_VIDEO
from ..description import Box, Column, Template, Text
from ..showing import BOX, FIRST, OWN_VIDEO, clips, example, note
from .kiwi import CLIP, MEMORY

TITLE = Text("UniGen-LingXi, a video", "灵犀编辑视频")
NAME, FOLDER = "unigen-lingxi-5b", "shyai--UniGen-LingXi-5B"
PREFIX = Text(
    "Laid out like Kiwi-Edit, but trained with the task named: every sentence begins with `video-editing: ` (a"
    " picture's with `Image-editing: `). Its page says MIT, and elsewhere Apache-2.0.",
    "结构与 Kiwi-Edit 相同，句子前要写任务：视频写 `video-editing: `，图片写 `Image-editing: `。页面写的许可是"
    " MIT，另一处是 Apache-2.0。",
)
HOW = Text(
    "**To get it** (20 to 30 GB; size and licence are shown first): in this pack's folder, with ComfyUI's Python,"
    f" `python -m instructx_core download {NAME} --to ../../models/instructx`, then press R. Never tried with its"
    " weights.",
    "**下载**（20 到 30 GB，先显示大小和许可）：在本节点包的文件夹里用 ComfyUI 的 Python 运行"
    f" `python -m instructx_core download {NAME} --to ../../models/instructx`，然后按 R。没有用真实权重试过。",
)


def lingxi() -> Template:
    settings = {
        "instruction": "video-editing: Turn the coffee into green tea.",
        "model_name": FOLDER,
    }
    return Template(
        TITLE,
        note(TITLE, PREFIX, OWN_VIDEO, HOW, MEMORY),
        (
            Column({"input": example(CLIP, "A clip")}, width=FIRST),
            Column({"edit": Box(EDIT_VIDEO, "Edit video", settings)}, width=BOX),
            *clips("lingxi"),
        ),
        {"input.VIDEO": ["edit.video", "before.video"], "edit.VIDEO": ["after.video"]},
        needs_weights=True,
    )
