"""Edit a photograph with Kiwi-Edit."""

from ..blueprints import EDIT_IMAGE
from ..description import Box, Column, Template, Text
from ..showing import BOX, FIRST, OWN_PICTURE, example, note, pictures
from .kiwi import INSTRUCT, MEMORY, files, folder, how

TITLE = Text("Kiwi-Edit, a photograph", "编辑照片")


def kiwi_image() -> Template:
    settings = {"instruction": "Turn the sky into a warm sunset.", "model_name": folder(INSTRUCT)}
    return Template(
        TITLE,
        note(TITLE, OWN_PICTURE, how(INSTRUCT), MEMORY),
        (
            Column({"input": example("rocket", "A photograph")}, width=FIRST),
            Column({"edit": Box(EDIT_IMAGE, "Edit image", settings, models=files(INSTRUCT))}, width=BOX),
            *pictures("kiwi-image"),
        ),
        {"input.IMAGE": ["edit.image", "before.images"], "edit.IMAGE": ["after.images"]},
        needs_weights=True,
    )
