"""InstructX Sigmas: the library's schedule for SamplerCustomAdvanced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from . import categories, sampling
from .notes import show

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


class InstructXSigmas(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InstructXSigmas",
            display_name="InstructX Sigmas",
            category=categories.SAMPLING,
            description="The exact noise levels of InstructX Sampler, for SamplerCustomAdvanced.",
            search_aliases=["instructx", "scheduler", "sigmas"],
            inputs=[
                io.Model.Input("model", tooltip="The MODEL whose checkpoint sets steps and shift."),
                io.Int.Input(
                    "steps",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="Sampling steps. 0: the checkpoint's own number.",
                ),
                io.Float.Input("shift", default=0.0, min=0.0, max=100.0, step=0.1, tooltip="0: the MODEL's own value."),
            ],
            outputs=[io.Sigmas.Output(display_name="SIGMAS", tooltip="Falling to 0; from 1 for a Wan MODEL.")],
        )

    @classmethod
    def execute(cls, model: ModelPatcher, steps: int, shift: float) -> io.NodeOutput:
        from .natives import check_model

        check_model(model)
        levels = sampling.own_sigmas(model, steps, shift)
        show(sampling.in_words(len(levels) - 1, sampling.shift_of(model, shift)))
        return io.NodeOutput(levels)
