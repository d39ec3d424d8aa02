"""Edit an image: the first template to open."""

from ..blueprints import EDIT_IMAGE
from ..description import App, Box, Column, Template, Text
from ..showing import BOX, FIRST, OWN_PICTURE, SENTENCES, TINY, example, note, pictures

TITLE = Text("Edit an image", "编辑图片")
SAY = Text("Type what to change, press **Run**.", "写下要改什么，然后点击 **运行**。")
SOURCE = "cat"


def edit_an_image() -> Template:
    return Template(
        TITLE,
        note(TITLE, SAY, OWN_PICTURE, TINY),
        (
            Column({"input": example(SOURCE)}, width=FIRST),
            Column({"edit": Box(EDIT_IMAGE, "Edit image", {"instruction": SENTENCES[SOURCE]})}, width=BOX),
            *pictures("image-edit"),
        ),
        {"input.IMAGE": ["edit.image", "before.images"], "edit.IMAGE": ["after.images"]},
        app=App(("edit.instruction", "input.example", "edit.seed"), ("after",)),
    )
