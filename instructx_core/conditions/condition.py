"""What every condition is: three pure functions, one for each place where a DiT can be changed.

latents -> enter -> patch embedding -> embed -> blocks -> leave -> output
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch


@dataclass(frozen=True)
class Condition:
    """Changes nothing; a kind overrides what it changes.

    Tensors have a batch of B, or of 1, which serves any B. R counts frames that references add.
    """

    def enter(self, latents: torch.Tensor) -> torch.Tensor:
        """What the patch embedding is given: [B, C, T, H, W] -> [B, C', T + R, H, W]."""
        return latents

    def embed(self, tokens: torch.Tensor, sigma: torch.Tensor | None = None) -> torch.Tensor:
        """What the patch embedding gave: [B, width, t, h, w] -> the same shape.

        Args:
            sigma: [B] or scalar, 1 = noise; only for kinds that depend on it.
        """
        return tokens

    def leave(self, output: torch.Tensor) -> torch.Tensor:
        """What the DiT gave: [B, C, T + R, H, W] -> [B, C, T, H, W]."""
        return output


@dataclass(frozen=True)
class SourceCondition(Condition):
    """A condition that knows the source's latents: some models predict what to change in them."""

    source: torch.Tensor  # [B, C, T, H, W] normalised


def alike(first: Sequence[Condition], second: Sequence[Condition]) -> bool:
    """Whether two lists of conditions can be joined along the batch: the same kinds, settings and shapes."""
    return [_outline(condition) for condition in first] == [_outline(condition) for condition in second]


def joined(lists: Sequence[Sequence[Condition]], batch: int) -> tuple[Condition, ...]:
    """Lists of conditions that are `alike`, joined along the batch, `batch` each."""
    if len(lists) == 1:
        return tuple(lists[0])
    return tuple(_joined(group, batch) for group in zip(*lists, strict=True))


def _joined(group: Sequence[Condition], batch: int) -> Condition:
    first = group[0]
    tensors = [field.name for field in fields(first) if isinstance(getattr(first, field.name), torch.Tensor)]
    if all(condition is first for condition in group) and all(len(getattr(first, name)) == 1 for name in tensors):
        return first  # serves any batch: nothing to copy
    parts = {name: [getattr(condition, name) for condition in group] for name in tensors}
    return replace(
        first, **{name: torch.cat([part.expand(batch, *part.shape[1:]) for part in own]) for name, own in parts.items()}
    )


def _outline(condition: Condition) -> tuple[object, ...]:
    """The kind, the shapes of its tensors, and all else unchanged."""
    values = (getattr(condition, field.name) for field in fields(condition))
    return type(condition), *(value.shape if isinstance(value, torch.Tensor) else value for value in values)
