"""InsightEdit: a different model in the same box."""

from ..blueprints import EDIT_IMAGE
from ..description import Box, Column, Template, Text
from ..showing import BOX, FIRST, OWN_PICTURE, SENTENCES, example, note, pictures

NAME = "InsightEdit Tiny (bundled)"
TITLE = Text("InsightEdit, edit an image", "换一种模型编辑图片")
SAY = Text(
    "LLaVA reads, Stable Diffusion's UNet draws: the same nodes with another model. It works at 64 x 64 and knows"
    " coloured shapes only.",
    "LLaVA 负责理解，Stable Diffusion 的 UNet 负责绘制：节点相同，模型不同。它以 64 x 64 工作，只认识彩色图形。",
)
SOURCE = "demo"


def insightedit_image() -> Template:
    settings = {"instruction": SENTENCES[SOURCE], "model_name": NAME}
    return Template(
        TITLE,
        note(TITLE, SAY, OWN_PICTURE),
        (
            Column({"input": example(SOURCE)}, width=FIRST),
            Column({"edit": Box(EDIT_IMAGE, "Edit image", settings)}, width=BOX),
            *pictures("insightedit"),
        ),
        {"input.IMAGE": ["edit.image", "before.images"], "edit.IMAGE": ["after.images"]},
    )
