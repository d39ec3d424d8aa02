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
    cfg: float,
    sampler: comfy.samplers.KSAMPLER,
    levels: torch.Tensor,
    callback: Callable[..., None],
) -> Iterator[tuple[ModelPatcher, float, comfy.samplers.KSAMPLER, torch.Tensor, Callable[..., None]]]:
    """Yield the runs of both MODELs in order: MODEL, cfg, sampler, noise levels, callback. The last gives the edit.

    Args:
        levels: noise levels of the whole run, [steps + 1], falling.
    """
    config = denoising(model).config
    first = int((levels[:-1] >= (config.denoiser.boundary or USUAL) - ROUNDING).sum())
    second_cfg = cfg if cfg == 1 else cfg * config.sampling.second_share  # cfg 1, no guidance, stays 1
    latents: list[torch.Tensor] = []  # result of the previous run's last step
    steps = len(levels) - 1
    for one, own_cfg, begin, end in ((model, cfg, 0, first), (low, second_cfg, first, steps)):

        def run(inner: Any, noisy: torch.Tensor, *given: Any, **named: Any) -> torch.Tensor:
            latents[:] = [sampler.sampler_function(inner, *(latents or [noisy]), *given, **named)]
            return latents[0]

        def after_step(step: int, clean: torch.Tensor, noisy: torch.Tensor, _: int, begin: int = begin) -> None:
            callback(begin + step, clean, noisy, steps)

        if begin < end:
            own = comfy.samplers.KSAMPLER(run, sampler.extra_options, sampler.inpaint_options)
            yield one, own_cfg, own, levels[begin : end + 1], after_step


def _outline(model: ModelPatcher) -> tuple[object, ...]:
    inner = model.model
    dit = inner.diffusion_model
    return type(inner), inner.latent_format.latent_channels, getattr(dit, "dim", None), len(getattr(dit, "blocks", ()))


def _words(model: ModelPatcher) -> str:
    kind, channels, width, blocks = _outline(model)
    return f"{kind.__name__} of width {width}, {blocks} blocks and {channels} channels"
