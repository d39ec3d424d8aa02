"""A language model turns a vague wish into a clear sentence."""

from ..blueprints import EDIT_IMAGE
from ..description import Box, Column, Node, Template, Text
from ..showing import BOX, NARROW, SENTENCES, TINY, UNDER, example, note, pictures, weights

TITLE = Text("Rewrite a vague prompt", "改写含糊的提示词")
WISH = Text(
    "Type your wish after *Wish:*. A small language model writes it as one clear sentence, which the box takes instead"
    " of its own. ComfyUI offers to download the model.",
    "在 *Wish:* 后写下愿望，小语言模型把它改写成一句清楚的话，盒子用这句话代替自己的文本。ComfyUI 会提示下载模型。",
)
QWEN = weights(
    "qwen_3_4b.safetensors",
    "https://huggingface.co/Comfy-Org/flux2-klein/resolve/main/split_files/text_encoders/qwen_3_4b.safetensors",
    "text_encoders",
)
SOURCE = "ground"
PROMPT = (
    "Rewrite the wish as one short instruction for a picture editor. Name what changes and into what. Answer with the"
    " instruction alone.\nWish: the ground behind should look like the sea"
)


def rewrite_the_prompt() -> Template:
    loads = Node("CLIPLoader", "Language model", {"clip_name": QWEN[0]["name"], "type": "ltxv"}, models=QWEN)
    writes = {"prompt": PROMPT, "max_length": 64, "sampling_mode": "off"}
    box = Box(EDIT_IMAGE, "Edit image", {"instruction": SENTENCES[SOURCE]})
    said = Node("PreviewAny", "The sentence", {}, 120)
    return Template(
        TITLE,
        note(TITLE, WISH, TINY),
        (
            Column({"input": example(SOURCE), "model": loads}, width=280),
            Column({"rewrite": Node("TextGenerate", "Your wish", writes, 300)}, width=260, top=UNDER),
            Column({"edit": box, "said": said}, width=BOX),
            *pictures("rewritten", NARROW),
        ),
        {
            "input.IMAGE": ["edit.image", "before.images"],
            "model.CLIP": ["rewrite.clip"],
            "rewrite.generated_text": ["edit.instruction", "said.source"],
            "edit.IMAGE": ["after.images"],
        },
        needs_weights=True,
    )
