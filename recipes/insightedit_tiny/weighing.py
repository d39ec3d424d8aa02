"""What an error counts by its noise, its place and its example: a tiny model has no time to learn all alike."""

from __future__ import annotations

import torch

from instructx_core.diffusion import trained_sigmas

from ..tiny.editing import CHANGED, SMALLEST_CHANGE


def drawn_levels(count: int, generator: torch.Generator) -> torch.Tensor:
    """Places int64 [count] in `trained_sigmas`, each drawn as often as 1 / (1 - sigma) says.

    Edits are decided where there is most noise, and there eps is told easily: its error has to count as the velocity's
    does, which is 1 / (1 - sigma) times as large and squared. One half of that is drawn here, the other weighed below.
    """
    return torch.multinomial(_amplified(trained_sigmas()), count, replacement=True, generator=generator)


def level_weight(sigma: torch.Tensor) -> torch.Tensor:
    """What eps's squared error counts at levels sigma [B] from `drawn_levels`, with a mean of 1 over them."""
    all_levels = _amplified(trained_sigmas())
    mean = all_levels.square().sum() / all_levels.sum()
    return _amplified(sigma) / mean.to(sigma)


def _amplified(sigma: torch.Tensor) -> torch.Tensor:
    return 1 / (1 - sigma)


def place_weight(source: torch.Tensor, target: torch.Tensor, edited: float, balance: float) -> torch.Tensor:
    """What the error at each place of [B, C, 1, h, w] latents counts, [B, 1, 1, h, w], with a mean of about 1.

    Args:
        edited: of places that the edit changes, beside the others' 1.
        balance: examples count by how much they change to minus this power, else whole pictures drown small objects.
    """
    change = target - source
    weight = 1 + (edited - 1) * (change.abs() > CHANGED).any(1, keepdim=True)
    size = (weight * change.square()).mean((1, 2, 3, 4), keepdim=True) / weight.mean()
    return (size + SMALLEST_CHANGE) ** -balance * weight / weight.mean()
