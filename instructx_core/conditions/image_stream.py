"""Decoupled cross-attention to an image's tokens and the instruction's (IP-Adapter, InsightEdit's IAA, Wan I2V)."""

from __future__ import annotations

from collections.abc import Callable

import torch

KeysValues = tuple[torch.Tensor, torch.Tensor]  # [B, tokens, heads, head] each
Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def attend_apart(
    attend: Attend, query: torch.Tensor, image: KeysValues, attended: torch.Tensor, weight: float = 1.0
) -> torch.Tensor:
    """Add a query's attention to the image to its attention to the instruction, each with its own softmax.

    In one softmax over both, a few hundred image tokens would draw the weight away from the words.

    Args:
        attend: (query, key, value) -> [B, tokens, heads, head].
        query: [B, tokens, heads, head].
        image: keys and values of the image stream, from separate projections.
        attended: the result of `attend` for the instruction's keys and values.
        weight: of the attention to the image.
    """
    found = attend(query, *image)
    return attended + (found if weight == 1 else weight * found)
