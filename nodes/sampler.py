"""InstructX Sampler: sample with the checkpoint's own settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from . import categories, sampling
from .model_pair import low_input, second_of
from .notes import show

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from .conditioning import Conditioning


class InstructXSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InstructXSampler",
            display_name="InstructX Sampler",
            category=categories.SAMPLING,
            description="Sample with the checkpoint's own steps, cfg, shift and schedule; each can be overridden.",
            search_aliases=["instructx", "ksampler"],
            inputs=[
                io.Model.Input("model", tooltip="From InstructX Source or InstructX Reference."),
                io.Conditioning.Input("positive", tooltip="From InstructX Source or InstructX Reference."),
                io.Conditioning.Input("negative", tooltip="From InstructX Source or InstructX Reference."),
                io.Latent.Input("latent", tooltip="From InstructX Source."),
                *sampling.inputs(),
                low_input(),
            ],
            outputs=[io.Latent.Output(display_name="LATENT", tooltip="The edit. Decode it with the VAE.")],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        positive: Conditioning,
        negative: Conditioning,
        latent: dict[str, Any],
        seed: int,
        steps: int,
        cfg: float,
        shift: float,
        sampler_name: str,
        scheduler: str,
        denoise: float,
        edit_strength: float = 1.0,
        model_low: ModelPatcher | None = None,
    ) -> io.NodeOutput:
        from .natives import check_model

        check_model(model)
        low = None if model_low is None else second_of(model, model_low)
        asked = sampling.asked(steps, cfg, shift)
        chosen = sampling.settings(model, asked, sampler_name, scheduler, denoise, edit_strength)
        show(str(chosen))
        return io.NodeOutput(sampling.sample(model, positive, negative, latent, seed, chosen, low=low))
