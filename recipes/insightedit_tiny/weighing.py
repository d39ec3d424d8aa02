"""Weights of errors by noise level, position and example: a tiny model has no time to learn everything equally."""

from __future__ import annotations

import torch

from instructx_core.diffusion import trained_sigmas

from ..tiny.editing import CHANGED, SMALLEST_CHANGE


def drawn_levels(count: int, generator: torch.Generator) -> torch.Tensor:
    """Draw indices int64 [count] into `trained_sigmas` with probabilities proportional to 1 / (1 - sigma).

    Edits are decided where there is most noise, and there eps is easy to predict: its error has to count like the
    velocity's, which is 1 / (1 - sigma) times as large, then squared. One factor comes from drawing here, the other
    from `level_weight`.
    """
    return torch.multinomial(_amplified(trained_sigmas()), count, replacement=True, generator=generator)


def level_weight(sigma: torch.Tensor) -> torch.Tensor:
    """Weight of eps's squared error at levels sigma [B] from `drawn_levels`, with a mean of 1 over them."""
    all_levels = _amplified(trained_sigmas())
    mean = all_levels.square().sum() / all_levels.sum()
    return _amplified(sigma) / mean.to(sigma)


def _amplified(sigma: torch.Tensor) -> torch.Tensor:
    return 1 / (1 - sigma)


def place_weight(source: torch.Tensor, target: torch.Tensor, edited: float, balance: float) -> torch.Tensor:
    """Weight of the error at each position of [B, C, 1, h, w] latents, [B, 1, 1, h, w], with a mean of about 1.

    Args:
        edited: weight of positions that the edit changes; the others have 1.
        balance: examples are weighted by (how much they change) ** -balance, or whole pictures drown small objects.
    """
    change = target - source
    weight = 1 + (edited - 1) * (change.abs() > CHANGED).any(1, keepdim=True)
    size = (weight * change.square()).mean((1, 2, 3, 4), keepdim=True) / weight.mean()
    return (size + SMALLEST_CHANGE) ** -balance * weight / weight.mean()
