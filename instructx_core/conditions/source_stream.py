"""A source or a reference as tokens of its own beside the noisy ones, told apart by an id in RoPE (Bernini-R).

Each stream's grid begins where the edit's does; its id turns all pairs of a head's channels once more, as a position on
an axis of its own would. What the DiT makes of its tokens is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from .condition import Condition

THETA = 10000.0  # Wan's
TRAINED_IDS = 5  # more streams share this range evenly

Rope = tuple[torch.Tensor, torch.Tensor]  # cosine and sine, each [1, tokens, 1, head]


@dataclass(frozen=True)
class SourceStream(Condition):
    """One source; its latents may have another size and length than the edit's."""

    latents: torch.Tensor  # [B, C, t, h, w] normalised
    identity: float  # 1, 2, ...; the noisy latents are 0

    def before(self, tokens: torch.Tensor, embed: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """[B, width, L] -> [B, width, S + L]: its own tokens in front, by the DiT's patch embedding."""
        own = embed(self.latents).flatten(2)
        return torch.cat([own.to(tokens).expand(len(tokens), -1, -1), tokens], dim=2)

    def turned_before(self, rope: Rope, of: Callable[[torch.Tensor], Rope]) -> Rope:
        """RoPE of the tokens of `before`.

        Args:
            rope: of the tokens behind.
            of: RoPE of a grid that begins at zero, told by the shape of latents.
        """
        cos, sin = of(self.latents)
        pairs = cos.shape[-1] // 2
        rates = THETA ** (-torch.arange(pairs, dtype=torch.float64) / pairs)
        angles = (self.identity * rates).repeat_interleave(2)  # [head]
        own_cos, own_sin = (values.to(cos) for values in (angles.cos(), angles.sin()))
        turned = (cos * own_cos - sin * own_sin, sin * own_cos + cos * own_sin)
        return tuple(torch.cat([own, behind], dim=1) for own, behind in zip(turned, rope, strict=True))


def source_streams(latents: Sequence[torch.Tensor]) -> list[SourceStream]:
    """Streams in their order, with ids from 1; more than were ever trained share the trained range."""
    count = len(latents)
    ids = torch.linspace(1, min(count, TRAINED_IDS), count, dtype=torch.float64) if count else torch.empty(0)
    return [SourceStream(one, float(identity)) for one, identity in zip(latents, ids, strict=True)]
