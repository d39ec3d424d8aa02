"""A DiT's tokens after two thirds of its blocks, which auxiliary losses ask what will happen to the source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from einops import rearrange

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel


@contextmanager
def inner_tokens(transformer: WanTransformer3DModel) -> Iterator[list[torch.Tensor]]:
    """Collects the tokens [B, L, width] of each forward of the DiT while it lasts."""
    tokens: list[torch.Tensor] = []
    block = transformer.blocks[2 * len(transformer.blocks) // 3 - 1]
    handle = block.register_forward_hook(lambda _m, _i, output: tokens.append(output))
    try:
        yield tokens
    finally:
        handle.remove()


def by_token(changed: torch.Tensor, patch: tuple[int, int, int]) -> torch.Tensor:
    """Latent positions [B, 1, t, h, w] -> those of each token, [B, L, positions of a patch]."""
    pt, ph, pw = patch
    return rearrange(changed, "b 1 (t pt) (h ph) (w pw) -> b (t h w) (pt ph pw)", pt=pt, ph=ph, pw=pw)
