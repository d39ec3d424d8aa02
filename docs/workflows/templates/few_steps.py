"""A step-distilled LoRA: four steps instead of fifty."""

from ..blueprints import EDIT_WITH_OWN_LOADERS
from ..description import Box, Column, Node, Template, Text
from ..native import LIGHTX2V
from ..showing import BOX, below, note
from .split_loaders import SMALL, loaders

TITLE = Text("Four steps with a LoRA", "四步出图")
FEW = Text(
    "A step-distilled LoRA of Wan2.1 14B after the adapter: four steps, cfg 1. Choose *adapter* and *MLLM* as in"
    " *Split loaders for a 14B*. Not tried here with real weights.",
    "在 adapter 之后接 Wan2.1 14B 的步数蒸馏 LoRA：四步，cfg 1。*adapter* 和 *MLLM* 按 *Split loaders for a 14B*"
    " 选择。这里没有用真实权重试过。",
)


def few_steps() -> Template:
    columns, links = loaders()
    lora = Node("LoraLoaderModelOnly", "Few-step LoRA", {"lora_name": LIGHTX2V[0]["name"]}, models=LIGHTX2V)
    settings = {"instruction": "Turn the sky into a warm sunset.", "steps": 4}
    return Template(
        TITLE,
        note(TITLE, FEW),
        (
            *columns,
            Column({"lora": lora}, width=SMALL),
            *below({"edit": Box(EDIT_WITH_OWN_LOADERS, "Edit", settings)}, "few-steps", BOX),
        ),
        links | {"adapter.MODEL": ["lora.model"], "lora.MODEL": ["edit.model"]},
        needs_weights=True,
    )
