"""A source or a reference as separate tokens before the noisy ones, distinguished by an id in RoPE (Bernini-R).

Each stream's grid has the same origin as the edit's; its id rotates all pairs of a head's channels once more, like a
position on an additional axis. The DiT's output for its tokens is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from .condition import Condition

THETA = 10000.0  # Wan's
TRAINED_IDS = 5  # ids of more streams are spread evenly over this range

Rope = tuple[torch.Tensor, torch.Tensor]  # cosine and sine, each [1, tokens, 1, head]


@dataclass(frozen=True)
class SourceStream(Condition):
    """One stream; its latents may differ from the edit's in size and length."""

    latents: torch.Tensor  # [B, C, t, h, w] normalised
    identity: float  # 1, 2, ...; the noisy latents are 0

    def before(self, tokens: torch.Tensor, embed: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """[B, width, L] -> [B, width, S + L]: prepend its tokens, from the DiT's patch embedding."""
        own = embed(self.latents).flatten(2)
        return torch.cat([own.to(tokens).expand(len(tokens), -1, -1), tokens], dim=2)

    def turned_before(self, rope: Rope, of: Callable[[torch.Tensor], Rope]) -> Rope:
        """Prepend the RoPE of its tokens, as `before` does with the tokens.

        Args:
            rope: of the tokens after it.
            of: latents -> RoPE of a grid of their shape that begins at zero.
        """
        cos, sin = of(self.latents)
        pairs = cos.shape[-1] // 2
        rates = THETA ** (-torch.arange(pairs, dtype=torch.float64) / pairs)
        angles = (self.identity * rates).repeat_interleave(2)  # [head]
        own_cos, own_sin = (values.to(cos) for values in (angles.cos(), angles.sin()))
        turned = (cos * own_cos - sin * own_sin, sin * own_cos + cos * own_sin)
        return tuple(torch.cat([own, behind], dim=1) for own, behind in zip(turned, rope, strict=True))


def source_streams(latents: Sequence[torch.Tensor]) -> list[SourceStream]:
    """Streams in order, with ids from 1; ids of more than `TRAINED_IDS` are spread over the trained range."""
    count = len(latents)
    ids = torch.linspace(1, min(count, TRAINED_IDS), count, dtype=torch.float64) if count else torch.empty(0)
    return [SourceStream(one, float(identity)) for one, identity in zip(latents, ids, strict=True)]
