"""A DiT's tokens after some of its blocks, which auxiliary losses ask what will happen to the source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING

import torch
from einops import rearrange

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

LATE = Fraction(2, 3)  # where what happens to each place is settled
EARLY = Fraction(1, 2)  # where it can still be read from other places


@contextmanager
def inner_tokens(transformer: WanTransformer3DModel, share: Fraction = LATE) -> Iterator[list[torch.Tensor]]:
    """Collects the tokens [B, L, width] of each forward of the DiT, after that share of its blocks, while it lasts."""
    tokens: list[torch.Tensor] = []
    block = transformer.blocks[int(share * len(transformer.blocks)) - 1]
    handle = block.register_forward_hook(lambda _m, _i, output: tokens.append(output))
    try:
        yield tokens
    finally:
        handle.remove()


def by_token(changed: torch.Tensor, patch: tuple[int, int, int]) -> torch.Tensor:
    """Latent positions [B, 1, t, h, w] -> those of each token, [B, L, positions of a patch]."""
    pt, ph, pw = patch
    return rearrange(changed, "b 1 (t pt) (h ph) (w pw) -> b (t h w) (pt ph pw)", pt=pt, ph=ph, pw=pw)
