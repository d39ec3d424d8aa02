"""InstructX Guidance: a guider for SamplerCustomAdvanced with the library's guidance modes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.samplers
from comfy_api.latest import io

from ..instructx_core.config import GuidanceMode, SamplingConfig
from . import categories
from .conditioning import has_references, only_with
from .natives import check_model

if TYPE_CHECKING:
    import torch
    from comfy.model_patcher import ModelPatcher

    from ..instructx_core.guidance_modes import OneForward
    from .conditioning import Conditioning


class InstructXGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InstructXGuidance",
            display_name="InstructX Guidance",
            category=categories.SAMPLING,
            description=(
                "Guide by the instruction, the source and the references, each with its own weight. For any Wan "
                "MODEL with its sources in the conditioning: from InstructX Source and Reference, or from ComfyUI's "
                "Bernini Conditioning."
            ),
            search_aliases=["instructx", "guider", "cfg", "apg", "bernini", "rv2v", "v2v"],
            inputs=[
                io.Model.Input("model", tooltip="A Wan MODEL from any loader."),
                io.Conditioning.Input("positive", tooltip="With the instruction, the source and the references."),
                io.Conditioning.Input(
                    "negative", tooltip="The same source and references without the instruction, or a negative prompt."
                ),
                io.Combo.Input(
                    "mode",
                    options=[mode.value for mode in GuidanceMode],
                    default=GuidanceMode.TASK.value,
                    tooltip=(
                        "v2v: the instruction. v2v_apg: the same with projected guidance, which keeps colours"
                        " truer. v2v_chain: the source, then the instruction. rv2v: the source, the "
                        "references, then the instruction. r2v_apg: the references without the source. task: "
                        "v2v for an image, v2v_apg for a video, rv2v with references."
                    ),
                ),
                io.Float.Input("cfg", default=4.0, min=0.0, max=100.0, step=0.1, tooltip="Weight of the instruction."),
                io.Float.Input(
                    "source_scale",
                    default=1.25,
                    min=0.0,
                    max=100.0,
                    step=0.05,
                    tooltip="Weight of the source, in v2v_chain and rv2v.",
                ),
                io.Float.Input(
                    "reference_scale",
                    default=4.5,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Weight of the references, in rv2v and r2v_apg.",
                ),
            ],
            outputs=[io.Guider.Output(display_name="GUIDER", tooltip="For SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        positive: Conditioning,
        negative: Conditioning,
        mode: str,
        cfg: float,
        source_scale: float,
        reference_scale: float,
    ) -> io.NodeOutput:
        check_model(model)
        scales = SamplingConfig(guidance_scale=cfg, source_scale=source_scale, reference_scale=reference_scale)
        return io.NodeOutput(ModeGuider(model, positive, negative, GuidanceMode(mode), scales))


class ModeGuider(comfy.samplers.CFGGuider):
    """Runs the MODEL for each prediction that the library's mode needs, and combines them as the library does."""

    def __init__(
        self,
        model: ModelPatcher,
        positive: Conditioning,
        negative: Conditioning,
        mode: GuidanceMode,
        scales: SamplingConfig,
    ) -> None:
        from ..instructx_core.guidance_modes import formula_of, mode_of

        super().__init__(model)
        referenced = has_references(positive)
        # a LATENT of one frame is an image; this is known only during sampling
        modes = {is_video: mode_of(mode, is_video, referenced) for is_video in (False, True)}
        self.formulas = {is_video: formula_of(chosen, scales) for is_video, chosen in modes.items()}
        parts = {part for made in self.formulas.values() for part in made.parts}
        self.inner_set_conds(
            {
                _name(part): only_with(positive if part.words else negative, part.source, part.references)
                for part in parts
            }
        )

    def predict_noise(
        self, x: torch.Tensor, timestep: torch.Tensor, model_options: dict[str, Any] | None = None, seed: Any = None
    ) -> torch.Tensor:
        from ..instructx_core.sampling import combined

        made = self.formulas[x.ndim == 5 and x.shape[2] > 1]
        wanted = [self.conds[_name(part)] for part in made.parts]
        found = comfy.samplers.calc_cond_batch(self.inner_model, wanted, x, timestep, model_options or {})
        # predictions of the clean latents combine like velocities, because the weights of a sum add up to 1
        weighted = [(part.weight, clean) for part, clean in zip(made.parts, found, strict=True)]
        return combined(weighted) if made.projection is None else made.projection.chained(weighted)


def _name(part: OneForward) -> str:
    """The name of a part's conditioning; ComfyUI treats only the names `positive` and `negative` specially."""
    read = "positive" if part.words else "negative"
    if part.source and part.references:
        return read
    return f"{read}, {'with' if part.source else 'without'} source, {'with' if part.references else 'no'} references"
