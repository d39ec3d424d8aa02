"""Hidden states with their masks and streams in one value: guidance before the connector, context after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

PARTS = ("tokens", "mask", "image", "addend")  # tensors of a `Context`


@dataclass(frozen=True)
class LocalEdits:
    """K local instructions, each with a mask of where it acts."""

    tokens: torch.Tensor  # [B, K, N', D]
    masks: torch.Tensor  # [B, K, t, h, w] in [0, 1], on their own grid
    size: tuple[int, int, int] | None = None  # (frames, height, width) that they cover; None: all that is denoised

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> LocalEdits:
        return replace(self, tokens=self.tokens.to(device=device, dtype=dtype), masks=self.masks.to(device=device))


@dataclass(frozen=True)
class Context:
    """B is the batch size, N the instruction's tokens, M those of an image stream."""

    tokens: torch.Tensor  # [B, N, D]
    mask: torch.Tensor | None = None  # bool [B, N], True where the DiT may attend; None: everywhere
    # [B, M, D'], attended to separately (`conditions.image_stream`); in guidance, the picture's features
    image: torch.Tensor | None = None
    # [B, C, h, w], resized and added to the output of the denoiser's first layer
    addend: torch.Tensor | None = None
    image_weight: float = 1.0  # weight of the image stream's attention output (InsightEdit's lambda, eq. 6)
    local: LocalEdits | None = None  # in addition to the tokens, which cover all of them: `conditions.local_edits`
    seen: torch.Tensor | None = None  # in guidance, if requested: [B, V, D''], hidden states of a clip's tokens

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Context:
        """A copy on another device, in another dtype except for its masks."""

        def moved(part: torch.Tensor | None) -> torch.Tensor | None:
            return None if part is None else part.to(device=device, dtype=dtype)

        mask = None if self.mask is None else self.mask.to(device=device)
        local = None if self.local is None else self.local.to(dtype, device)
        image, addend = moved(self.image), moved(self.addend)
        return replace(self, tokens=moved(self.tokens), mask=mask, image=image, addend=addend, local=local)


def contexts_alike(first: Context, second: Context) -> bool:
    """Whether two contexts can be joined along the batch: the same parts, shapes and image weight."""
    return _shapes(first) == _shapes(second) and first.image_weight == second.image_weight


def joined_contexts(contexts: Sequence[Context]) -> Context:
    """Join contexts that are `contexts_alike` along the batch."""
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
    tokens, masks = torch.cat([one.tokens for one in local]), torch.cat([one.masks for one in local])
    return replace(local[0], tokens=tokens, masks=masks)


def _shapes(context: Context) -> list[torch.Size | None]:
    local = (None, None) if context.local is None else (context.local.tokens, context.local.masks)
    parts = (*(getattr(context, name) for name in PARTS), *local)
    return [None if part is None else part.shape for part in parts]
