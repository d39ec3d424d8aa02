"""Hidden states and what belongs to them, as one value: guidance up to the connector, context from there to the DiT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

PARTS = ("tokens", "mask", "image", "addend")  # its tensors


@dataclass(frozen=True)
class Context:
    """B is the batch, N the places of the instruction, M those of an image stream."""

    tokens: torch.Tensor  # [B, N, D]
    mask: torch.Tensor | None = None  # bool [B, N], True where the DiT may look; None: everywhere
    # [B, M, D'], attended to apart from the tokens (`conditions.image_stream`); of guidance, its picture's features
    image: torch.Tensor | None = None
    # [B, C, h, w], added to what the denoiser's first layer gives, at whatever size that has
    addend: torch.Tensor | None = None
    image_weight: float = 1.0  # how much of what is found in the image stream counts (InsightEdit's lambda, eq. 6)

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Context:
        """The same on another device, all but its mask in another dtype."""

        def moved(part: torch.Tensor | None) -> torch.Tensor | None:
            return None if part is None else part.to(device=device, dtype=dtype)

        mask = None if self.mask is None else self.mask.to(device=device)
        return replace(self, tokens=moved(self.tokens), mask=mask, image=moved(self.image), addend=moved(self.addend))


def contexts_alike(first: Context, second: Context) -> bool:
    """Whether two contexts can be joined along the batch: the same parts of the same shapes, that count as much."""
    return _shapes(first) == _shapes(second) and first.image_weight == second.image_weight


def joined_contexts(contexts: Sequence[Context]) -> Context:
    """Contexts that are `contexts_alike`, joined along the batch."""
    first = contexts[0]
    if len(contexts) == 1:
        return first
    parts = {
        name: None if getattr(first, name) is None else torch.cat([getattr(context, name) for context in contexts])
        for name in PARTS
    }
    return replace(first, **parts)


def _shapes(context: Context) -> list[torch.Size | None]:
    return [None if part is None else part.shape for part in (getattr(context, name) for name in PARTS)]
