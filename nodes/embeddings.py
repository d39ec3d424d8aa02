"""What stands in the place of a native Wan DiT's embeddings: values in, values out, nothing remembered in between, so
that torch.compile follows it.

What a patch embedding of this pack is to take in besides the noisy latent comes as further channels behind it, which
`channels_behind` lays and `PatchEmbedding` takes apart again: the source, how strongly it counts there, and whether
this is a reference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from ..instructx_core.checkpoints.parts import AddedEmbedding

Embedding = Callable[[torch.Tensor], torch.Tensor]


class PatchEmbedding:
    """The DiT's patch embedding, plus the source's, and for references their own in its place.

    x is [B, own + C + 2, T, H, W], C the channels of the source's embedding or 0 without one; of `own` channels alone,
    [B, own, T, H, W], it is embedded as ever.
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
        noisy, source, presence, is_reference = x.split([self.channels, x.shape[1] - self.channels - 2, 1, 1], dim=1)
        embedded = self.own(noisy)
        if self.source is not None:
            embedded = embedded + _embed(self.source, source, presence)
        if self.reference is not None:
            # is_reference is the same all over a frame; where the two patch embeddings meet nothing is mixed
            p, q, r = self.reference.weight.shape[2:]
            chosen = is_reference[:, :, ::p, ::q, ::r] > 0.5
            embedded = torch.where(chosen, _embed(self.reference, noisy, torch.ones_like(presence)), embedded)
        return embedded


class TextEmbedding:
    """The DiT's text embedding, for a context that is not already as wide as the DiT."""

    def __init__(self, own: Embedding, width: int) -> None:
        self.own = own
        self.width = width

    def __call__(self, context: torch.Tensor) -> torch.Tensor:
        return context if context.shape[-1] == self.width else self.own(context)


def channels_behind(
    x: torch.Tensor, embedding: AddedEmbedding | None, source: torch.Tensor | None, presence: torch.Tensor | None
) -> torch.Tensor:
    """x [B, own, T, H, W] and behind it what `PatchEmbedding` takes there; None: x has no source.

    Args:
        embedding: the source's; without one the source itself stays out.
        source: [B, C, T, H, W], already as faint as the DiT is to see it.
        presence: [B, 1, T, H, W], how strongly the embedding's bias counts.
    """
    if source is None or presence is None or embedding is None:
        count = 0 if embedding is None else embedding.weight.shape[1]
        return F.pad(x, (0, 0) * 3 + (0, count + 2))
    return torch.cat([x, source.to(x), presence.to(x), torch.zeros_like(presence).to(x)], dim=1)


def as_references(references: torch.Tensor, count: int) -> torch.Tensor:
    """References [B, own, R, H, W] with `count` channels, as `PatchEmbedding` takes them: no source, and the mark."""
    further = count - references.shape[1]
    return F.pad(F.pad(references, (0, 0) * 3 + (0, further - 1)), (0, 0) * 3 + (0, 1), value=1.0)


def _embed(embedding: AddedEmbedding, latents: torch.Tensor, presence: torch.Tensor) -> torch.Tensor:
    """[B, C, T, H, W] -> [B, width, t, h, w], the bias `presence` [B, 1, T, H, W] times."""
    weight, bias = embedding.weight.to(latents), embedding.bias.to(latents)
    patch = weight.shape[2:]
    embedded = F.conv3d(latents, weight, stride=patch)
    return embedded + F.avg_pool3d(presence, patch) * bias.view(1, -1, 1, 1, 1)
