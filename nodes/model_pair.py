"""Two native MODELs that share a run (Wan2.2-A14B): one for high noise, one for low.

Each gets a complete ComfyUI run with everything patched onto it, so that ComfyUI moves the weights and restarts caches.
The second continues from the sampler's internal latents: a LATENT would lose what a noise mask holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import comfy.samplers
from comfy_api.latest import io

from ..instructx_core.denoiser_pair import ROUNDING
from ..instructx_core.errors import InputError
from ..instructx_core.families.boundary import USUAL
from .denoising import ATTACHMENT, denoising
from .natives import is_unet
from .wan import attach

if TYPE_CHECKING:
    import torch
    from comfy.model_patcher import ModelPatcher

    from ..instructx_core.config import GuidanceMode, SamplingConfig


def low_input() -> io.Input:
    """The socket for the second MODEL."""
    return io.Model.Input(
        "model_low",
        optional=True,
        tooltip=(
            "The low-noise DiT of a pair (Wan2.2 A14B); model is then the high-noise one. Without its own adapter, "
            "it uses model's."
        ),
    )


def second_of(model: ModelPatcher, low: ModelPatcher) -> ModelPatcher:
    """`low` prepared as the second of a pair: with its own attached checkpoint, else with that of `model`.

    Raises:
        InputError: the MODELs differ in kind or size.
    """
    if is_unet(model) or _outline(model) != _outline(low):
        raise InputError(
            f"model is {_words(model)} and model_low {_words(low)}; connect the two DiTs of one pair, such as Wan2.2 "
            "A14B's for high and for low noise."
        )
    what = model.get_attachment(ATTACHMENT)
    return low if what is None or low.get_attachment(ATTACHMENT) is not None else attach(low, what)


def runs(
    model: ModelPatcher,
    low: ModelPatcher,
    mode: GuidanceMode,
    scales: SamplingConfig,
    sampler: comfy.samplers.KSAMPLER,
    levels: torch.Tensor,
    callback: Callable[..., None],
) -> Iterator[tuple[ModelPatcher, SamplingConfig, comfy.samplers.KSAMPLER, torch.Tensor, Callable[..., None]]]:
    """Yield the runs of both MODELs in order: MODEL, scales, sampler, noise levels, callback. The last gives the edit.

    Args:
        mode: not `TASK`.
        scales: the first's; the second's are the checkpoint's share of these.
        levels: noise levels of the whole run, [steps + 1], falling.
    """
    from ..instructx_core.guidance_modes import second_scales

    boundary = denoising(model).config.denoiser.boundary or USUAL
    first = int((levels[:-1] >= boundary - ROUNDING).sum())
    latents: list[torch.Tensor] = []  # result of the previous run's last step
    steps = len(levels) - 1
    for one, own_scales, begin, end in ((model, scales, 0, first), (low, second_scales(mode, scales), first, steps)):

        def run(inner: Any, noisy: torch.Tensor, *given: Any, **named: Any) -> torch.Tensor:
            latents[:] = [sampler.sampler_function(inner, *(latents or [noisy]), *given, **named)]
            return latents[0]

        def after_step(step: int, clean: torch.Tensor, noisy: torch.Tensor, _: int, begin: int = begin) -> None:
            callback(begin + step, clean, noisy, steps)

        if begin < end:
            own = comfy.samplers.KSAMPLER(run, sampler.extra_options, sampler.inpaint_options)
            yield one, own_scales, own, levels[begin : end + 1], after_step


def _outline(model: ModelPatcher) -> tuple[object, ...]:
    inner = model.model
    dit = inner.diffusion_model
    return type(inner), inner.latent_format.latent_channels, getattr(dit, "dim", None), len(getattr(dit, "blocks", ()))


def _words(model: ModelPatcher) -> str:
    kind, channels, width, blocks = _outline(model)
    return f"{kind.__name__} of width {width}, {blocks} blocks and {channels} channels"
