"""An image's tokens beside the instruction's: decoupled cross-attention (IP-Adapter, InsightEdit's IAA, Wan I2V)."""

from __future__ import annotations

from collections.abc import Callable

import torch

KeysValues = tuple[torch.Tensor, torch.Tensor]  # [B, places, heads, head] each
Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def attend_apart(
    attend: Attend, query: torch.Tensor, image: KeysValues, attended: torch.Tensor, weight: float = 1.0
) -> torch.Tensor:
    """What a query found in the instruction, plus what it finds in the image: each has its own softmax.

    In one softmax over both, a few hundred image tokens would take the weight away from the words.

    Args:
        attend: (query, key, value) -> [B, tokens, heads, head].
        query: [B, tokens, heads, head].
        image: keys and values of the image stream, by projections of their own.
        attended: what `attend` gave for the instruction's keys and values.
        weight: how much of what is found in the image counts.
    """
    found = attend(query, *image)
    return attended + (found if weight == 1 else weight * found)
