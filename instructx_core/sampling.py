"""The sampling loop for one window, with any number of guidance terms.

It uses diffusers' schedulers: Euler on the denoiser's noise levels (`schedules` has Wan's), UniPC on its own levels, or
re-noising the predicted data at given levels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch

from .backbone import Backbone
from .conditions.condition import Condition, alike, joined
from .config import Solver
from .context import Context, contexts_alike, joined_contexts
from .errors import EditInterrupted, InputError
from .projection import Projection
from .results import check_numbers
from .schedules import TIMESTEPS, is_number, unipc_schedule
from .words import shown

StepCallback = Callable[[int, int, torch.Tensor], object]  # (step from 1, total, latents) -> False stops


def check_guidance_scale(scale: object, name: str = "guidance_scale", most: int = 100) -> None:
    """Raise InputError unless this is a number from 0 to `most`."""
    if not is_number(scale) or not 0 <= scale <= most:
        raise InputError(f"{name} is {shown(scale)}; give a number from 0 to {most}.")


def check_seed(seed: object) -> None:
    """Raise InputError unless this is an integer from 0 to 2**64 - 1."""
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= seed < 2**64:
        raise InputError(f"seed is {shown(seed)}; give a whole number from 0 to 2**64 - 1.")


def initial_noise(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """float32 standard normal noise, the same on every machine: drawn on the CPU from `seed`.

    Raises:
        InputError: a seed that is not an integer from 0 to 2**64 - 1.
    """
    return torch.randn(shape, generator=generator_of(seed))


def generator_of(seed: int) -> torch.Generator:
    """A generator on the CPU, as a GPU's gives different values. Raises InputError as `initial_noise`."""
    check_seed(seed)
    return torch.Generator("cpu").manual_seed(int(seed))


@dataclass(frozen=True)
class GuidanceTerm:
    """The inputs of a velocity and its weight. The weights of a run's terms add up to 1."""

    weight: float
    context: Context
    conditions: tuple[Condition, ...] = ()


@torch.no_grad()
def sample(
    denoiser: Backbone,
    noise: torch.Tensor,
    terms: Sequence[GuidanceTerm],
    steps: int,
    shift: float,
    callback: StepCallback | None = None,
    sigma_min: float = 0.0,
    pinned: torch.Tensor | None = None,
    solver: Solver = Solver.EULER,
    projection: Projection | None = None,
    renoise: Sequence[float] = (),
    generators: list[torch.Generator] | None = None,
    second: Sequence[GuidanceTerm] = (),
) -> torch.Tensor:
    """Denoise `noise` [B, C, T, H, W] to normalised latents of the same shape.

    Args:
        terms: velocity = sum of weight_i * velocity_i. Terms of the same shapes share a forward.
        callback: called after each step; returning False stops the run.
        sigma_min: see `schedules.schedule`.
        pinned: normalised latents [B, C, k, H, W], k <= T, for the first k frames of the result; at every noise level
            these frames are the pinned ones noised to it, and the others are denoised next to them.
        solver: UniPC has its own noise levels and ignores sigma_min.
        projection: if given, the terms are a chain, and each weight scales the difference from the term before.
        renoise: noise levels that replace steps, shift and solver; the data predicted at each is noised again to the
            next.
        generators: for that noise, one for each of the B.
        second: replaces `terms` for the second of a pair of DiTs; empty to use the same.

    Raises:
        InputError: steps or shift out of range, weights that do not add up to 1, or pinned latents of a wrong shape.
        CheckpointError: the model gave NaN or infinity.
        EditInterrupted: the callback returned False.
    """
    if renoise:
        scheduler, levels = _renoising(renoise, noise.device)
        further = {"generator": generators}
    else:
        scheduler, levels = _scheduler(denoiser, solver, steps, shift, sigma_min, noise.device)
        further = {}
    steps = len(levels)

    if projection is None:
        check_weights(terms)
        check_weights(second or terms)
    if pinned is not None:
        check_pinned(pinned, noise)
    for term in (*terms, *second):  # find broken weights before minutes of sampling, not after
        check_numbers(term.context.tokens, "while reading the instruction")
    turns = [denoiser.at(level) for level in levels.tolist()]  # the network of each step
    forwards: list[_Forward] = []

    latents = denoiser.begin(noise, float(scheduler.sigmas[0]))  # [B, C, T, H, W]
    for step, timestep in enumerate(scheduler.timesteps):
        if step == 0 or turns[step] is not turns[step - 1]:
            half = turns[step]
            own = terms if half is denoiser.halves[0] else second or terms
            forwards.clear()  # with their caches, which belong to the other network
            half.prepare(turns.count(half))
            forwards += (_Forward(half, group, len(noise), place) for place, group in enumerate(_grouped(own)))
        parts = [pair for forward in forwards for pair in forward(latents, levels[step])]
        sigma = scheduler.sigmas[step]
        velocity = combined(parts) if projection is None else projection.guided(parts, latents, sigma)
        latents = scheduler.step(velocity, timestep, latents, return_dict=False, **further)[0]
        if pinned is not None:  # noised to the level after this step, to match the other frames
            latents = pin(latents, pinned, noise, scheduler.sigmas[step + 1])
        if callback is not None and callback(step + 1, steps, latents) is False:
            raise EditInterrupted(f"The edit was stopped after step {step + 1} of {steps}.")
    check_numbers(latents, "while sampling")
    return latents


def _scheduler(
    denoiser: Backbone, solver: Solver, steps: int, shift: float, sigma_min: float, device: torch.device
) -> tuple[Any, torch.Tensor]:
    """diffusers' scheduler, and the noise levels [N] that are passed to the DiT."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    if solver is Solver.EULER:
        # latents + (next sigma - sigma) * velocity; the levels are already shifted, and it appends the 0 itself
        scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
        scheduler.set_timesteps(sigmas=denoiser.levels(steps, shift, sigma_min)[:-1].tolist(), device=device)
        return scheduler, scheduler.sigmas[:-1]
    return unipc(unipc_schedule(steps, shift))


def _renoising(sigmas: Sequence[float], device: torch.device) -> tuple[Any, torch.Tensor]:
    """As `_scheduler`, for re-noising steps."""
    from diffusers import FlowMatchLCMScheduler

    scheduler = FlowMatchLCMScheduler(shift=1.0)
    scheduler.set_timesteps(sigmas=list(sigmas), device=device)
    return scheduler, scheduler.sigmas[:-1]


def unipc(sigmas: torch.Tensor) -> tuple[Any, torch.Tensor]:
    """diffusers' UniPC on levels [N + 1] falling to 0, and the levels [N] passed to the DiT: integer timesteps."""
    from diffusers import UniPCMultistepScheduler

    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    scheduler.set_timesteps(len(sigmas) - 1)
    # as in diffusers up to 0.35: later versions begin closer to 1, which gives other edits
    scheduler.sigmas = sigmas.float()
    scheduler.timesteps = (sigmas[:-1] * TIMESTEPS).to(torch.int64).clamp(min=1)  # at 0 there is nothing to predict
    scheduler.set_begin_index(0)  # rounded timesteps may repeat, so the step must not be looked up by timestep
    return scheduler, scheduler.timesteps / TIMESTEPS


class _Forward:
    """Terms of the same shapes, in one DiT forward per step, and the values that the steps share."""

    def __init__(self, denoiser: Backbone, terms: Sequence[GuidanceTerm], batch: int, place: int) -> None:
        """place: index among the forwards of a step, by which a step cache tells them apart."""
        self.denoiser = denoiser
        self.weights = [term.weight for term in terms]
        self.context = joined_contexts([term.context for term in terms])  # [terms * B, N, D]
        self.conditions = joined([term.conditions for term in terms], batch)
        self.constants = denoiser.constants(place)

    def __call__(self, latents: torch.Tensor, sigma: torch.Tensor) -> list[tuple[float, torch.Tensor]]:
        """Each term's weight and velocity [B, C, T, H, W]."""
        # one forward for all terms: [terms * B, C, T, H, W], in the order of the contexts
        hidden = torch.cat([latents] * len(self.weights)) if len(self.weights) > 1 else latents
        with self.constants():
            velocity = self.denoiser(hidden, sigma, self.context, self.conditions)
        return list(zip(self.weights, velocity.chunk(len(self.weights)), strict=True))


def _grouped(terms: Sequence[GuidanceTerm]) -> list[list[GuidanceTerm]]:
    """Group terms that can share a forward, ordered by the first of each group."""
    groups: list[list[GuidanceTerm]] = []
    for term in terms:
        for group in groups:
            if contexts_alike(group[0].context, term.context) and alike(group[0].conditions, term.conditions):
                group.append(term)
                break
        else:
            groups.append([term])
    return groups


def combined(parts: Sequence[tuple[float, torch.Tensor]]) -> torch.Tensor:
    """Sum of weight * velocity, where the weights add up to 1, as v_n + sum of w_i (v_i - v_n).

    This form is bit-identical to the textbook's u + w (c - u) and loses no precision where velocities are close.
    """
    *others, (_, last) = parts
    total = last
    for weight, velocity in others:
        total = total + weight * (velocity - last)
    return total


def check_weights(terms: Sequence[GuidanceTerm]) -> None:
    """Raise InputError unless the weights of the terms add up to 1."""
    total = sum(term.weight for term in terms)
    if not abs(total - 1) <= 1e-6:  # NaN too
        raise InputError(f"The weights of the guidance add up to {total:g}; give weights that add up to 1.")


def pin(latents: torch.Tensor, pinned: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """`latents` [B, C, T, H, W] with `pinned` [B, C, k, H, W] for their first frames, noised to sigma by `noise`."""
    count = pinned.shape[2]
    # the run's own noise: at sigma = 1 the first frames are exactly the initial ones
    return torch.cat([(1 - sigma) * pinned + sigma * noise[:, :, :count], latents[:, :, count:]], dim=2)


def check_pinned(pinned: torch.Tensor, noise: torch.Tensor) -> None:
    """Raise InputError unless `pinned` fits the first frames of latents shaped as `noise`."""
    (*batch, count, height, width), shape = pinned.shape, noise.shape
    if (*batch, height, width) != (*shape[:2], *shape[3:]) or not 1 <= count <= shape[2]:
        raise InputError(
            f"The pinned latents have the shape {list(pinned.shape)}, the edit {list(shape)}; give fewer frames or as "
            "many, with all other sides the same."
        )
