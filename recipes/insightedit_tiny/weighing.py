"""What an error counts by its noise, its place and its example: a tiny model has no time to learn all alike."""

from __future__ import annotations

import torch

from ..tiny.editing import CHANGED, SMALLEST_CHANGE


def level_weight(sigma: torch.Tensor, most: float) -> torch.Tensor:
    """What eps's error counts at noise levels sigma [B]: as the velocity's, which is 1 / (1 - sigma) times as large.

    Edits are decided where there is most noise, and there eps is told easily. At most `most` times the least.
    """
    weight = (1 - sigma).pow(-2).clamp(max=most)
    return weight / (1 + most) * 2


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
