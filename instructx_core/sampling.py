"""The flow-matching schedule and the sampling loop for one window.

Euler over sigma_i = s u / (1 + (s - 1) u) with u = 1 - i / N for i = 0..N, through diffusers' scheduler. Some models
were trained with a u that runs to a sigma_min above 0 in the same N steps, the last of which then goes on to 0.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real

import torch

from .denoiser import Conditions, Denoiser, batch_conditions
from .errors import EditInterrupted, InputError
from .results import check_numbers
from .words import shown

StepCallback = Callable[[int, int, torch.Tensor], object]  # (step from 1, total, latents) -> False stops


def schedule(steps: int, shift: float, sigma_min: float = 0.0) -> torch.Tensor:
    """The noise levels of a run.

    Args:
        steps: N >= 1.
        shift: s > 0; above 1 it spends more of the steps at high noise.
        sigma_min: u = 1 - (1 - sigma_min) i / N, but for i = N, which is 0.

    Returns:
        float64 [N + 1], falling from 1 to 0.

    Raises:
        InputError: steps or shift out of range.
    """
    if isinstance(steps, bool) or not isinstance(steps, Integral) or not 1 <= steps <= 1000:
        raise InputError(f"steps is {shown(steps)}; give a whole number from 1 to 1000.")
    if not is_number(shift) or not 0 < shift <= 100:
        raise InputError(f"shift is {shown(shift)}; give a number above 0, at most 100.")
    u = 1 - (1 - sigma_min) * torch.arange(steps + 1, dtype=torch.float64) / steps
    u[-1] = 0
    return shift * u / (shift * u + (1 - u))  # the formula above, written so that it begins at exactly 1


def check_guidance_scale(scale: object) -> None:
    """Raise InputError unless this is a number from 0 to 100."""
    if not is_number(scale) or not 0 <= scale <= 100:
        raise InputError(f"guidance_scale is {shown(scale)}; give a number from 0 to 100.")


def is_number(value: object) -> bool:
    """Whether this is a real number, of whatever type; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def initial_noise(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """float32 standard normal noise, the same on every machine: drawn on the CPU from `seed`.

    Raises:
        InputError: a seed that is no whole number from 0 to 2**64 - 1.
    """
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= seed < 2**64:
        raise InputError(f"seed is {shown(seed)}; give a whole number from 0 to 2**64 - 1.")
    generator = torch.Generator("cpu").manual_seed(int(seed))
    return torch.randn(shape, generator=generator)


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    noise: torch.Tensor,
    conditions: Conditions,
    steps: int,
    shift: float,
    guidance_scale: float = 1.0,
    unconditional: Conditions | None = None,
    callback: StepCallback | None = None,
    sigma_min: float = 0.0,
    pinned: torch.Tensor | None = None,
) -> torch.Tensor:
    """Denoise `noise` [B, C, T, H, W] to normalised latents of the same shape.

    Args:
        guidance_scale: w of velocity = u + w (c - u); 1 asks for no unconditional forward.
        unconditional: the conditions without the instruction, needed where guidance_scale is not 1.
        callback: called after each step; a return of False stops the run.
        sigma_min: see `schedule`.
        pinned: normalised latents [B, C, k, H, W], k <= T, that the first k frames are to become; at every noise level
            they are these, noised by it, and the other frames are denoised beside them.

    Raises:
        InputError: steps, shift or guidance scale out of range, or pinned latents of another shape.
        CheckpointError: the model gave NaN or infinity.
        EditInterrupted: the callback returned False.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler

    check_guidance_scale(guidance_scale)
    sigmas = schedule(steps, shift, sigma_min)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    scheduler.set_timesteps(sigmas=sigmas[:-1].tolist(), device=noise.device)

    guided = guidance_scale != 1.0
    if guided and unconditional is None:
        raise InputError("guidance_scale other than 1 needs unconditional conditions.")
    if pinned is not None:
        check_pinned(pinned, noise)
    check_numbers(conditions.context, "while reading the instruction")
    frames = noise.shape[2]
    both = batch_conditions(conditions, unconditional) if guided else conditions
    prepared = denoiser.prepare(both, frames, steps)

    latents = noise
    for step, timestep in enumerate(scheduler.timesteps):
        sigma = scheduler.sigmas[step]
        velocity = denoiser(torch.cat([latents, latents]) if guided else latents, sigma, prepared)
        if guided:
            with_instruction, without = velocity.chunk(2)
            velocity = without + guidance_scale * (with_instruction - without)
        latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
        if pinned is not None:
            latents = hold(latents, pinned, noise, scheduler.sigmas[step + 1])
        if callback is not None and callback(step + 1, steps, latents) is False:
            raise EditInterrupted(f"The edit was stopped after step {step + 1} of {steps}.")
    check_numbers(latents, "while sampling")
    return latents


def hold(latents: torch.Tensor, pinned: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """`latents` [B, C, T, H, W] with `pinned` [B, C, k, H, W] for their first frames, noised to sigma by `noise`."""
    count = pinned.shape[2]
    return torch.cat([(1 - sigma) * pinned + sigma * noise[:, :, :count], latents[:, :, count:]], dim=2)


def check_pinned(pinned: torch.Tensor, noise: torch.Tensor) -> None:
    """Raise InputError unless `pinned` is the beginning of latents shaped as `noise`."""
    (*batch, count, height, width), shape = pinned.shape, noise.shape
    if (*batch, height, width) != (*shape[:2], *shape[3:]) or not 1 <= count <= shape[2]:
        raise InputError(
            f"The pinned latents have the shape {list(pinned.shape)}, the edit {list(shape)}; give as many frames or "
            "fewer, all else the same."
        )
