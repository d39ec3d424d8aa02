"""Hidden states and what belongs to them, as one value: guidance up to the connector, context from there to the DiT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Context:
    """B is the batch, N the places of the instruction, M those of an image stream."""

    tokens: torch.Tensor  # [B, N, D]
    mask: torch.Tensor | None = None  # bool [B, N], True where the DiT may look; None: everywhere
    image: torch.Tensor | None = None  # [B, M, D'], attended to apart from the tokens: `conditions.image_stream`

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Context:
        """The same on another device, its tokens and image stream in another dtype."""
        return Context(
            self.tokens.to(device=device, dtype=dtype),
            None if self.mask is None else self.mask.to(device=device),
            None if self.image is None else self.image.to(device=device, dtype=dtype),
        )


def contexts_alike(first: Context, second: Context) -> bool:
    """Whether two contexts can be joined along the batch: the same parts of the same shapes."""
    return _shapes(first) == _shapes(second)


def joined_contexts(contexts: Sequence[Context]) -> Context:
    """Contexts that are alike, side by side along the batch."""
    first = contexts[0]
    if len(contexts) == 1:
        return first
    return Context(
        torch.cat([context.tokens for context in contexts]),
        None if first.mask is None else torch.cat([context.mask for context in contexts]),
        None if first.image is None else torch.cat([context.image for context in contexts]),
    )


def _shapes(context: Context) -> list[torch.Size | None]:
    return [None if part is None else part.shape for part in (context.tokens, context.mask, context.image)]
