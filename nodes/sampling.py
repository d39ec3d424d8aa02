"""Shared by the sampling nodes: widgets, settings with the checkpoint's defaults filled in, and the run itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import comfy.model_management as management
import comfy.model_sampling
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from comfy_api.latest import io

from ..instructx_core.config import GuidanceMode, Solver
from ..instructx_core.errors import InputError
from ..instructx_core.results import check_numbers
from ..instructx_core.schedules import MOST_STEPS
from . import model_pair
from .denoising import denoising
from .guider import ModeGuider, guided_by
from .natives import check_one_medium, is_unet
from .unipc import sample_unipc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from comfy.model_patcher import ModelPatcher

    from ..instructx_core.request import Sampling
    from .conditioning import Conditioning

OWN_SCHEDULE = "instructx"
UNIPC = "UniPC"  # the library's, which is not among ComfyUI's samplers


@dataclass(frozen=True)
class Settings:
    """The settings of one run, with the widgets' zeros already replaced by defaults."""

    steps: int
    cfg: float
    shift: float  # 0 leaves the MODEL's own sampling as it is
    sampler: str  # ComfyUI's name, or UNIPC
    scheduler: str
    denoise: float
    mode: GuidanceMode = GuidanceMode.V2V

    def __str__(self) -> str:
        solver = ", UniPC" if self.sampler == UNIPC else ""
        return f"{in_words(self.steps, self.shift)}, guidance {self.cfg:g}{solver}"


def inputs(after_run: bool | io.ControlAfterGenerate = True) -> list[io.Input]:
    """The widgets of a sampler, in the order of `settings`.

    Args:
        after_run: what happens to the seed after a run; True for ComfyUI's default.
    """
    return [
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=2**64 - 1,
            control_after_generate=after_run,
            tooltip="Seed of the starting noise.",
        ),
        io.Int.Input("steps", default=0, min=0, max=1000, tooltip="Sampling steps. 0: the checkpoint's own number."),
        io.Float.Input(
            "cfg",
            default=0.0,
            min=0.0,
            max=100.0,
            step=0.1,
            tooltip=("How closely to follow the instruction. 1 takes half the time. 0: the checkpoint's own value."),
        ),
        io.Float.Input(
            "shift",
            default=0.0,
            min=0.0,
            max=100.0,
            step=0.1,
            tooltip="Above 1, more steps go to the coarse shape. 0: the MODEL's own value.",
        ),
        io.Combo.Input(
            "sampler_name",
            options=comfy.samplers.SAMPLER_NAMES,
            default="euler",
            tooltip="euler, with scheduler instructx: the solver that the model was made for.",
        ),
        io.Combo.Input(
            "scheduler",
            options=[OWN_SCHEDULE, *comfy.samplers.SCHEDULER_NAMES],
            default=OWN_SCHEDULE,
            tooltip="instructx is the model's exact schedule; the others are ComfyUI's.",
        ),
        io.Float.Input(
            "denoise",
            default=1.0,
            min=0.01,
            max=1.0,
            step=0.01,
            tooltip="Below 1, the edit starts from the source's latent instead of pure noise.",
        ),
        io.Float.Input(
            "edit_strength",
            default=1.0,
            min=0.0,
            max=2.0,
            step=0.05,
            optional=True,  # missing in older graphs
            tooltip=(
                "How much of the instruction to apply. 1: the model's own strength; less is milder, "
                "more is bolder. Anything but 1 doubles the time if cfg is 1."
            ),
        ),
    ]


def asked(steps: int, cfg: float, shift: float) -> Sampling:
    """The widgets' values for the library: 0, the checkpoint's own value, becomes None."""
    from ..instructx_core.request import Sampling

    return Sampling(steps or None, shift or None, cfg or None)


def settings(
    model: ModelPatcher,
    sampling: Sampling,
    sampler_name: str,
    scheduler: str,
    denoise: float,
    edit_strength: float = 1.0,
) -> Settings:
    """Fill in the checkpoint's own settings, and the MODEL's shift.

    Args:
        edit_strength: multiplies w, where guidance weighs the predictions by w with the instruction and 1 - w without.

    Raises:
        InputError: as for `shift_of` and `guidance_weight`; or a denoise so low that the whole schedule would exceed
            `MOST_STEPS`.
    """
    chosen = sampling.over(denoising(model).config.sampling)
    if scheduler == OWN_SCHEDULE and int(chosen.steps / denoise) > MOST_STEPS:
        raise InputError(
            f"At denoise {denoise:g}, {chosen.steps} steps are the last of {int(chosen.steps / denoise)}, but "
            f"{MOST_STEPS} is the most; raise denoise or lower steps."
        )
    shift = shift_of(model, sampling.shift or 0.0)
    guidance = guidance_weight(chosen.guidance_scale, edit_strength)
    if chosen.solver is Solver.UNIPC and (sampler_name, scheduler) == ("euler", OWN_SCHEDULE):
        sampler_name = UNIPC
    return Settings(chosen.steps, guidance, shift, sampler_name, scheduler, denoise, chosen.guidance_mode)


def guidance_weight(cfg: float, edit_strength: float) -> float:
    """cfg times edit_strength. Raises InputError unless it is in the range of cfg."""
    from ..instructx_core.sampling import check_guidance_scale

    weight = cfg * edit_strength
    check_guidance_scale(weight, "cfg times edit_strength")
    return weight


def needs_negative(models: Sequence[ModelPatcher], chosen: Settings, has_references: bool) -> bool:
    """Whether a run with these MODELs uses the negative: at cfg 1, a mode, a CFG++ sampler or a patch may."""
    from ..instructx_core.guidance_modes import mode_of, needs_both

    mode = mode_of(chosen.mode, True, has_references)
    patched = any(model.model_options.get("disable_cfg1_optimization", False) for model in models)
    return patched or chosen.sampler.endswith("_cfg_pp") or needs_both(mode, chosen.cfg)


def in_words(steps: int, shift: float) -> str:
    """Steps and shift, as shown to the user."""
    return f"steps {steps}, shift {shift:g}"


def shift_of(model: ModelPatcher, asked: float) -> float:
    """The shift of a run: 0 selects the MODEL's own, and remains 0 if the MODEL has none of this kind.

    Raises:
        InputError: as for `check_shifts`; or a shift other than 1 for a UNet, whose noise levels are fixed by training.
    """
    if not is_unet(model):
        if asked:
            check_shifts(model)
        return asked or (own_shift(model) if _shifts(model) else 0.0)
    if asked not in (0.0, 1.0):
        raise InputError(f"shift is {asked:g}, but this MODEL's noise levels are fixed; set shift to 0 or 1.")
    return 1.0


def own_shift(model: ModelPatcher) -> float:
    """The shift of a MODEL that passes `check_shifts`: from its loader, or from a later ModelSamplingSD3 node."""
    return float(model.get_model_object("model_sampling").shift)


def check_shifts(model: ModelPatcher) -> None:
    """Raise InputError unless a MODEL's noise levels are s u / (1 + (s - 1) u), where s is the shift.

    Flux's and LTXV's are not: there, shift is the exponent of a different curve.
    """
    if not _shifts(model):
        raise InputError(
            f"scheduler {OWN_SCHEDULE} and shift need noise levels like Wan's, which this MODEL does not have; "
            "choose one of ComfyUI's schedulers and shift 0."
        )


def _shifts(model: ModelPatcher) -> bool:
    return isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.ModelSamplingDiscreteFlow)


class FlowSampling(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
    """ComfyUI's flow matching, as the ModelSamplingSD3 node creates it."""


def shifted(model: ModelPatcher, shift: float) -> FlowSampling:
    """The MODEL's flow sampling with a different shift, which stock samplers then use too."""
    made = FlowSampling(model.model.model_config)
    made.set_parameters(shift=shift, multiplier=model.get_model_object("model_sampling").multiplier)
    return made


def own_sigmas(model: ModelPatcher, steps: int = 0, shift: float = 0.0) -> torch.Tensor:
    """The library's schedule with the checkpoint's settings, float32 [steps + 1]; 0 for the checkpoint's own."""
    from ..instructx_core.diffusion import diffusion_schedule
    from ..instructx_core.schedules import schedule

    own = denoising(model).config.sampling
    if is_unet(model):
        shift_of(model, shift)
        levels = diffusion_schedule(steps or own.steps)
        return (levels / (1 - levels)).float()  # ComfyUI's sigma is s / a, the library's s / (a + s)
    check_shifts(model)
    return schedule(steps or own.steps, shift or own_shift(model), own.sigma_min).float()


def sigmas(model: ModelPatcher, chosen: Settings) -> torch.Tensor:
    """The noise levels of a run, float32 [steps + 1]; for `denoise` below 1, the last ones of a longer run."""
    from ..instructx_core.schedules import unipc_schedule

    if chosen.scheduler == OWN_SCHEDULE:
        steps = int(chosen.steps / chosen.denoise)
        is_unipc = chosen.sampler == UNIPC
        whole = unipc_schedule(steps, chosen.shift).float() if is_unipc else own_sigmas(model, steps, chosen.shift)
        return whole[-(chosen.steps + 1) :]
    moved = model.clone()
    if chosen.shift and not is_unet(model):
        check_shifts(model)
        moved.add_object_patch("model_sampling", shifted(model, chosen.shift))
    run = comfy.samplers.KSampler(
        moved, chosen.steps, torch.device("cpu"), chosen.sampler, chosen.scheduler, chosen.denoise, moved.model_options
    )
    return run.sigmas


def sample(
    model: ModelPatcher,
    positive: Conditioning,
    negative: Conditioning,
    latent: dict[str, Any],
    seed: int,
    chosen: Settings,
    callback: Callable[..., None] | None = None,
    low: ModelPatcher | None = None,
) -> dict[str, Any]:
    """Denoise a LATENT with ComfyUI's sampling, previews, progress and Cancel, guided in the checkpoint's mode.

    Args:
        low: the second of a pair of DiTs, from `model_pair.second_of`; `model` is the first.
    """
    check_one_medium(latent["samples"], "latent")
    levels = sigmas(model, chosen)
    start = comfy.sample.fix_empty_latent_channels(model, latent["samples"])
    noise = comfy.sample.prepare_noise(start, seed, latent.get("batch_index"))
    is_unipc, masked = chosen.sampler == UNIPC, latent.get("noise_mask")
    sampler = comfy.samplers.KSAMPLER(sample_unipc) if is_unipc else comfy.samplers.sampler_object(chosen.sampler)
    callback = callback or latent_preview.prepare_callback(model, len(levels) - 1)
    shown = {"disable_pbar": not comfy.utils.PROGRESS_BAR_ENABLED, "seed": seed}
    mode = guided_by(chosen.mode, positive, start.shape)
    scales = replace(denoising(model).config.sampling, guidance_scale=chosen.cfg)
    runs = [(model, scales, sampler, levels, callback)]
    if low is not None:
        runs = model_pair.runs(model, low, mode, scales, sampler, levels, callback)
    for one, weights, own, at, after_step in runs:
        guider = ModeGuider(one, positive, negative, mode, weights)
        samples = guider.sample(noise, start, own, at, denoise_mask=masked, callback=after_step, **shown)
    check_numbers(samples, "while sampling")
    dtype = getattr(management, "intermediate_dtype", lambda: None)()  # older ComfyUI has none
    return latent | {"samples": samples.to(management.intermediate_device(), dtype)}
