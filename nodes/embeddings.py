"""Replacements for a native Wan DiT's embeddings, stateless so that torch.compile can trace them.

The patch embedding takes additional channels after the noisy latent's, which `ChannelsBehind` appends and
`PatchEmbedding` splits off again: the source, its strength at each position, and a mark for references. The library's
`SourceEmbed` and `in_place_of` apply them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from ..instructx_core.conditions.condition import Condition
from ..instructx_core.conditions.reference_frames import in_place_of
from ..instructx_core.conditions.source_embed import SourceEmbed

if TYPE_CHECKING:
    from ..instructx_core.families.part_loaders import AddedEmbedding

Embedding = Callable[[torch.Tensor], torch.Tensor]


class PatchEmbedding:
    """The DiT's patch embedding plus the source's; references get their own embedding instead.

    x is [B, own + C + 2, T, H, W], where C is the channels of the source's embedding, or 0 without one. An x with only
    the DiT's own channels, [B, own, T, H, W], goes through the DiT's embedding unchanged.
    """

    def __init__(
        self, own: Embedding, channels: int, source: AddedEmbedding | None, reference: AddedEmbedding | None
    ) -> None:
        self.own = own
        self.channels = channels
        self.source = source
        self.reference = reference

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] == self.channels:
            return self.own(x)
        noisy, source, strength, is_reference = x.split([self.channels, x.shape[1] - self.channels - 2, 1, 1], dim=1)
        tokens = self.own(noisy)
        if self.source is not None:
            # strength and mark are constant over a frame, so one position per patch is enough
            p, q, r = self.source.weight.shape[2:]
            own = _embed(self.source, source)
            tokens = SourceEmbed(source, own, strength=strength[:, :, ::p, ::q, ::r]).embed(tokens)
        if self.reference is not None:
            p, q, r = self.reference.weight.shape[2:]
            tokens = in_place_of(tokens, _embed(self.reference, noisy), is_reference[:, :, ::p, ::q, ::r] > 0.5)
        return tokens


class TextEmbedding:
    """The DiT's text embedding, skipped for a context that already has the DiT's width."""

    def __init__(self, own: Embedding, width: int) -> None:
        self.own = own
        self.width = width

    def __call__(self, context: torch.Tensor) -> torch.Tensor:
        return context if context.shape[-1] == self.width else self.own(context)


@dataclass(frozen=True)
class ChannelsBehind(Condition):
    """Appends the channels that `PatchEmbedding` expects: the source, its strength, the mark of a reference."""

    channels: int  # of the source's embedding; 0 without one
    source: torch.Tensor | None  # [B, channels, T, H, W]; None: no source
    strength: torch.Tensor | None  # [B, 1, T, H, W], weight of the source's tokens

    def enter(self, latents: torch.Tensor) -> torch.Tensor:
        if self.source is None or self.strength is None:
            return F.pad(latents, (0, 0) * 3 + (0, self.channels + 2))
        mark = torch.zeros_like(self.strength)
        return torch.cat([latents, *(part.to(latents) for part in (self.source, self.strength, mark))], dim=1)


def marked(references: torch.Tensor, channels: int) -> torch.Tensor:
    """References [B, own, R, H, W] as input of `PatchEmbedding`: source and strength zero, the mark set."""
    return F.pad(F.pad(references, (0, 0) * 3 + (0, channels + 1)), (0, 0) * 3 + (0, 1), value=1.0)


def _embed(embedding: AddedEmbedding, latents: torch.Tensor) -> torch.Tensor:
    """[B, C, T, H, W] -> [B, width, t, h, w]."""
    weight, bias = embedding.weight.to(latents), embedding.bias.to(latents)
    return F.conv3d(latents, weight, bias, stride=weight.shape[2:])
