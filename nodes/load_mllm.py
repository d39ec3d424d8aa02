"""InstructX Load MLLM: load only the part of a model that reads the instruction and the pixels."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from . import categories, requirements
from .folders import base_names, find_base, find_model, model_names, stamp
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
            description=(
                "Load a Qwen2.5-VL (for CoinVE-Edit a Qwen3-VL) with the queries and LoRA of an InstructX checkpoint."
            ),
            search_aliases=["instructx", "qwen2.5-vl", "kiwi"],
            inputs=[
                io.Combo.Input(
                    "base",
                    options=base_names(),
                    tooltip=(
                        "The vision-language model: a model folder with an mllm folder in it, a Qwen2.5-VL (for "
                        "CoinVE-Edit a Qwen3-VL) folder in models/instructx or models/text_encoders, or a file in "
                        "models/text_encoders."
                    ),
                ),
                io.Combo.Input(
                    "adapter",
                    options=model_names(),
                    tooltip=(
                        "The checkpoint whose queries and LoRA are applied to the base. It must have been trained on "
                        "that base."
                    ),
                ),
                io.Combo.Input("precision", options=list(PRECISIONS), default="default", tooltip=PRECISION_TOOLTIP),
            ],
            outputs=[Mllm.Output(display_name="MLLM", tooltip="Reads the instruction and looks at the pixels.")],
        )

    @classmethod
    def validate_inputs(cls, base: str | None = None, adapter: str | None = None) -> bool | str:
        said = True if base is None else problem(find_base, base)
        return problem(find_model, adapter) if said is True and adapter is not None else said

    @classmethod
    def fingerprint_inputs(cls, base: str | None, adapter: str | None, **_: Any) -> str:
        own = "" if base is None else stamp(find_base(base))  # None: comes from a link
        return own + ("" if adapter is None else stamp(find_model(adapter)))

    @classmethod
    def execute(cls, base: str, adapter: str, precision: str) -> io.NodeOutput:
        requirements.check()
        from ..instructx_core import families
        from ..instructx_core.families.overrides import Overrides
        from ..instructx_core.weights.parts import Part
        from .loading import load_mllm

        mllm, checkpoint = find_base(base), find_model(adapter)
        opened = families.open(checkpoint, Overrides(mllm=mllm))
        files = stamp(mllm) + stamp(checkpoint)
        return io.NodeOutput(load_mllm(opened, precision, adapter, files, LoadBar([opened.form(Part.MLLM)])))
