"""InstructX Load MLLM: the reading half of a model alone."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from . import categories, requirements
from .folders import adapter_names, base_names, find_adapter, find_base, stamp
from .load_bar import LoadBar
from .memory import PRECISION_TOOLTIP, PRECISIONS
from .menus import problem
from .sockets import Mllm


class InstructXLoadMLLM(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InstructXLoadMLLM",
            display_name="InstructX Load MLLM",
            category=categories.LOADERS,
            description="Load a Qwen2.5-VL with the queries and the LoRA of an InstructX checkpoint.",
            search_aliases=["instructx", "qwen2.5-vl"],
            inputs=[
                io.Combo.Input(
                    "base",
                    options=base_names(),
                    tooltip=(
                        "Where the vision-language model is: a model folder with mllm in it, or a folder of Qwen2.5-VL"
                        " itself in models/instructx or models/text_encoders."
                    ),
                ),
                io.Combo.Input(
                    "adapter",
                    options=adapter_names(),
                    tooltip=(
                        "The checkpoint whose queries and LoRA go onto the base; it must have been trained on that"
                        " base."
                    ),
                ),
                io.Combo.Input("precision", options=list(PRECISIONS), default="default", tooltip=PRECISION_TOOLTIP),
            ],
            outputs=[Mllm.Output(display_name="MLLM", tooltip="Reads the instruction and looks at the pixels.")],
        )

    @classmethod
    def validate_inputs(cls, base: str | None = None, adapter: str | None = None) -> bool | str:
        said = True if base is None else problem(find_base, base)
        return problem(find_adapter, adapter) if said is True and adapter is not None else said

    @classmethod
    def fingerprint_inputs(cls, base: str, adapter: str, **_: Any) -> str:
        return stamp(find_base(base)) + stamp(find_adapter(adapter))

    @classmethod
    def execute(cls, base: str, adapter: str, precision: str) -> io.NodeOutput:
        requirements.check()
        from ..instructx_core.families.part_loaders import mllm_folder
        from .loading import load_mllm

        folder = find_base(base)
        bar = LoadBar([mllm_folder(folder)])
        return io.NodeOutput(load_mllm(folder, find_adapter(adapter), precision, adapter, bar))
