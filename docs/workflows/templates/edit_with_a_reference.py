"""A subject from another picture."""

from ..blueprints import EDIT_WITH_REFERENCE
from ..description import App, Box, Column, Template, Text
from ..showing import BOX, FIRST, OWN_PICTURE, TINY, example, look, note, picture, saved_picture

TITLE = Text("Edit with a reference", "参考图编辑")
TWO_WAYS = Text(
    "The sentence may speak of *the object in the reference image*: the MLLM looks at it, the DiT gets its pixels.",
    "句子可以提到 *the object in the reference image*：MLLM 看它，DiT 得到它的像素。",
)


def edit_with_a_reference() -> Template:
    words = "add the object in the reference image in the top left"
    return Template(
        TITLE,
        note(TITLE, TWO_WAYS, OWN_PICTURE, TINY),
        (
            Column({"input": example("reference_add", 1)}, width=FIRST),
            Column(
                {
                    "edit": Box(EDIT_WITH_REFERENCE, "Edit with reference", {"instruction": words}),
                    "reference": look("The reference", 300),
                },
                width=BOX,
            ),
            picture("Before"),
            saved_picture("reference-edit"),
        ),
        {
            "input.IMAGE": ["edit.source", "before.images"],
            "input.reference": ["edit.reference", "reference.images"],
            "edit.IMAGE": ["after.images"],
        },
        app=App(("edit.instruction", "input.example", "input.seed", "edit.seed"), ("after",)),
    )
