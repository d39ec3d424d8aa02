"""Kiwi-Edit with its base model's few-step LoRA: FastWan's three noise levels, with fresh noise between them."""

from ..blueprints import THREE_STEPS
from ..description import Box, Column, Node, Template, Text
from ..native import FASTWAN
from ..showing import BOX, FIRST, NARROW, OWN_VIDEO, clips_below, example, note
from .kiwi import CLIP, INSTRUCT, files, folder, how

TITLE = Text("Kiwi-Edit in three steps", "三步编辑真实视频")
LEVELS = Text(
    "FastWan's LoRA of Wan2.2-TI2V-5B at strength 1, at its authors' noise levels, with *lcm*: at each the model"
    " predicts the clip, which gets new noise for the next. 3 forwards instead of 50. It was made for text to video;"
    " not measured with real weights.",
    "FastWan 的 Wan2.2-TI2V-5B LoRA，强度 1，用其作者的噪声级别和 *lcm*：每一级都预测出画面，再加噪到下一级。"
    "只算 3 次，而不是 50 次。它是为文生视频做的，没有用真实权重测过。",
)


def three_steps() -> Template:
    load = Node("InstructXLoadModel", "Kiwi-Edit", {"model_name": folder(INSTRUCT)}, models=files(INSTRUCT)["load"])
    lora = Node("LoraLoaderModelOnly", "Few-step LoRA", {"lora_name": FASTWAN[0]["name"]}, models=FASTWAN)
    box = Box(THREE_STEPS, "Edit in three steps", {"instruction": "Turn the coffee into green tea."})
    return Template(
        TITLE,
        note(TITLE, LEVELS, OWN_VIDEO, how(INSTRUCT)),
        (
            Column({"input": example(CLIP, "A clip"), "load": load}, width=FIRST),
            Column({"lora": lora}, width=NARROW),
            *clips_below({"edit": box}, "three-steps", BOX),
        ),
        {
            "input.VIDEO": ["edit.source", "before.video"],
            "load.MODEL": ["lora.model"],
            "load.VAE": ["edit.vae"],
            "load.MLLM": ["edit.mllm"],
            "load.CONNECTOR": ["edit.connector"],
            "lora.MODEL": ["edit.model"],
            "edit.VIDEO": ["after.video"],
        },
        needs_weights=True,
    )
