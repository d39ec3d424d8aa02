"""Edit an image with a subject from another picture."""

from ..blueprints import EDIT_WITH_REFERENCE
from ..description import App, Box, Column, Template, Text
from ..showing import BOX, FIRST, OWN_PICTURE, SENTENCES, TINY, example, look, note, pictures

TITLE = Text("Edit with a reference", "参考图编辑")
TWO_WAYS = Text(
    "The sentence may mention *the object in the reference image*: the MLLM looks at it, the DiT gets its pixels.",
    "句子可以提到 *the object in the reference image*：MLLM 看它，DiT 得到它的像素。",
)
SOURCE = "replaced"


def edit_with_a_reference() -> Template:
    return Template(
        TITLE,
        note(TITLE, TWO_WAYS, OWN_PICTURE, TINY),
        (
            Column({"input": example(SOURCE)}, width=FIRST),
            Column(
                {
                    "edit": Box(EDIT_WITH_REFERENCE, "Edit with reference", {"instruction": SENTENCES[SOURCE]}),
                    "reference": look("The reference", 290),
                },
                width=BOX,
            ),
            *pictures("reference-edit"),
        ),
        {
            "input.IMAGE": ["edit.source", "before.images"],
            "input.reference": ["edit.reference", "reference.images"],
            "edit.IMAGE": ["after.images"],
        },
        app=App(("edit.instruction", "input.example", "edit.seed"), ("after",)),
    )
