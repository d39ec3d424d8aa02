"""A DiT's tokens after some of its blocks, from which auxiliary losses predict what will happen to the source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING

import torch
from einops import rearrange

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

LATE = Fraction(2, 3)  # where the change at each position is settled
EARLY = Fraction(1, 2)  # early enough for tokens at other positions to read it


@contextmanager
def inner_tokens(transformer: WanTransformer3DModel, share: Fraction = LATE) -> Iterator[list[torch.Tensor]]:
    """Collect the tokens [B, L, width] after that share of the DiT's blocks, for each forward within the context."""
    tokens: list[torch.Tensor] = []
    block = transformer.blocks[int(share * len(transformer.blocks)) - 1]
    handle = block.register_forward_hook(lambda _m, _i, output: tokens.append(output))
    try:
        yield tokens
    finally:
        handle.remove()


def by_token(changed: torch.Tensor, patch: tuple[int, int, int]) -> torch.Tensor:
    """Group latent positions [B, 1, t, h, w] by token: [B, L, positions of a patch]."""
    pt, ph, pw = patch
    return rearrange(changed, "b 1 (t pt) (h ph) (w pw) -> b (t h w) (pt ph pw)", pt=pt, ph=ph, pw=pw)
