"""InstructX Guidance: a guider for SamplerCustomAdvanced with the library's guidance modes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.samplers
from comfy_api.latest import io

from ..instructx_core.config import GuidanceMode, SamplingConfig
from ..instructx_core.errors import InputError
from . import categories
from .conditioning import has_references, has_source, only_with
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
                        "v2v for an image, v2v_apg for a video, rv2v with references, r2v_apg with references "
                        "alone."
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
        super().__init__(model)
        self.positive, self.negative = positive, negative
        self.mode, self.scales = mode, scales

    def sample(self, noise: torch.Tensor, *given: Any, **named: Any) -> torch.Tensor:
        """As ComfyUI's. Only the LATENT tells an image from a video, and a source from references.

        Raises:
            InputError: as for `guided_by`; or a scale out of range.
        """
        from ..instructx_core.guidance_modes import formula_of

        mode = guided_by(self.mode, self.positive, noise.shape)
        made = self.formula = formula_of(mode, self.scales)
        self.original_conds = {}
        if made.is_plain:  # ComfyUI's own, for which patches may need the negative even at cfg 1
            self.set_conds(self.positive, self.negative)
            self.set_cfg(sum(part.weight for part in made.parts if part.words))
        else:
            said = {True: self.positive, False: self.negative}
            self.inner_set_conds(
                {
                    _name(part): only_with(said[part.words], part.source, part.references, noise.shape)
                    for part in made.parts
                }
            )
        return super().sample(noise, *given, **named)

    def predict_noise(
        self, x: torch.Tensor, timestep: torch.Tensor, model_options: dict[str, Any] | None = None, seed: Any = None
    ) -> torch.Tensor:
        from ..instructx_core.sampling import combined

        made, options = self.formula, model_options or {}
        if made.is_plain:
            return super().predict_noise(x, timestep, options, seed)
        conds = [self.conds[_name(part)] for part in made.parts]
        found = comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, options)
        # predictions of the clean latents combine like velocities, because the weights of a sum add up to 1
        weighted = [(part.weight, clean) for part, clean in zip(made.parts, found, strict=True)]
        denoised = combined(weighted) if made.projection is None else made.projection.chained(weighted)
        last = {part.words: place for place, part in enumerate(made.parts)}  # the instruction is weighed between these
        unasking = last[False]
        asking = last.get(True, unasking)  # at cfg 0 nothing is predicted with the instruction
        for function in options.get("sampler_post_cfg_function", []):  # CFG++ samplers and patches, as in ComfyUI's CFG
            denoised = function(
                {
                    "denoised": denoised,
                    "cond": conds[asking],
                    "uncond": conds[unasking],
                    "cond_scale": self.scales.guidance_scale,
                    "model": self.inner_model,
                    "uncond_denoised": found[unasking],
                    "cond_denoised": found[asking],
                    "sigma": timestep,
                    "model_options": options,
                    "input": x,
                }
            )
        return denoised


def guided_by(asked: GuidanceMode, positive: Conditioning, shape: torch.Size) -> GuidanceMode:
    """The mode of a run; `TASK` is resolved by the LATENT, of this shape, and by what is in the conditioning.

    Raises:
        InputError: `R2V_APG` without references.
    """
    from ..instructx_core.guidance_modes import mode_of

    referenced = has_references(positive, shape)
    if asked is GuidanceMode.TASK and referenced and not has_source(positive, shape):
        return GuidanceMode.R2V_APG  # the library always has a source
    if asked is GuidanceMode.R2V_APG and not referenced:
        raise InputError(
            "mode is r2v_apg, which guides by references, but positive has none, or just one of the LATENT's size, "
            "which counts as the source; connect one of another size, or choose another mode."
        )
    return mode_of(asked, len(shape) == 5 and shape[2] > 1, referenced)


def _name(part: OneForward) -> str:
    """The name of a part's conditioning; ComfyUI treats only the names `positive` and `negative` specially."""
    read = "positive" if part.words else "negative"
    if part.source and part.references:
        return read
    return f"{read}, {'with' if part.source else 'without'} source, {'with' if part.references else 'no'} references"
