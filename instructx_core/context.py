"""Hidden states and what belongs to them, as one value: guidance up to the connector, context from there to the DiT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

PARTS = ("tokens", "mask", "image", "addend")  # its tensors


@dataclass(frozen=True)
class LocalEdits:
    """What is asked of places alone, K instructions."""

    tokens: torch.Tensor  # [B, K, N', D]
    masks: torch.Tensor  # [B, K, t, h, w] in [0, 1], on a grid of their own

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> LocalEdits:
        return LocalEdits(self.tokens.to(device=device, dtype=dtype), self.masks.to(device=device))


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
    local: LocalEdits | None = None  # beside the tokens, which speak of all: `conditions.local_edits`
    seen: torch.Tensor | None = None  # of guidance: [B, V, D''], states at the places of a clip, where asked for

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Context:
        """The same on another device, all but its masks in another dtype."""

        def moved(part: torch.Tensor | None) -> torch.Tensor | None:
            return None if part is None else part.to(device=device, dtype=dtype)

        mask = None if self.mask is None else self.mask.to(device=device)
        local = None if self.local is None else self.local.to(dtype, device)
        image, addend = moved(self.image), moved(self.addend)
        return replace(self, tokens=moved(self.tokens), mask=mask, image=image, addend=addend, local=local)


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
    local = None if first.local is None else _joined_local([context.local for context in contexts])
    return replace(first, **parts, local=local)


def _joined_local(local: Sequence[LocalEdits]) -> LocalEdits:
    return LocalEdits(torch.cat([one.tokens for one in local]), torch.cat([one.masks for one in local]))


def _shapes(context: Context) -> list[torch.Size | None]:
    local = (None, None) if context.local is None else (context.local.tokens, context.local.masks)
    parts = (*(getattr(context, name) for name in PARTS), *local)
    return [None if part is None else part.shape for part in parts]
