"""The interface of conditions: three pure functions, one for each point where a DiT can be changed.

latents -> enter -> patch embedding -> embed -> blocks -> leave -> output
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch


@dataclass(frozen=True)
class Condition:
    """The base class, which changes nothing; a kind overrides what it changes.

    Tensors have a batch size of B, or of 1 for any B. R is the number of frames that references add.
    """

    def enter(self, latents: torch.Tensor) -> torch.Tensor:
        """Change the patch embedding's input: [B, C, T, H, W] -> [B, C', T + R, H, W]."""
        return latents

    def embed(self, tokens: torch.Tensor, sigma: torch.Tensor | None = None) -> torch.Tensor:
        """Change the patch embedding's output: [B, width, t, h, w] -> the same shape.

        Args:
            sigma: [B] or scalar, 1 = noise; only for kinds that depend on it.
        """
        return tokens

    def leave(self, output: torch.Tensor) -> torch.Tensor:
        """Change the DiT's output: [B, C, T + R, H, W] -> [B, C, T, H, W]."""
        return output


@dataclass(frozen=True)
class SourceCondition(Condition):
    """A condition that has the source's latents, which models that predict a change of the source need."""

    source: torch.Tensor  # [B, C, T, H, W] normalised


def alike(first: Sequence[Condition], second: Sequence[Condition]) -> bool:
    """Whether two lists of conditions can be joined along the batch: the same kinds, settings and shapes."""
    return [_outline(condition) for condition in first] == [_outline(condition) for condition in second]


def joined(lists: Sequence[Sequence[Condition]], batch: int) -> tuple[Condition, ...]:
    """Join lists of conditions that are `alike` along the batch, each expanded to `batch`."""
    if len(lists) == 1:
        return tuple(lists[0])
    return tuple(_joined(group, batch) for group in zip(*lists, strict=True))


def _joined(group: Sequence[Condition], batch: int) -> Condition:
    first = group[0]
    tensors = [field.name for field in fields(first) if isinstance(getattr(first, field.name), torch.Tensor)]
    if all(condition is first for condition in group) and all(len(getattr(first, name)) == 1 for name in tensors):
        return first  # fits any batch size: nothing to copy
    parts = {name: [getattr(condition, name) for condition in group] for name in tensors}
    return replace(
        first, **{name: torch.cat([part.expand(batch, *part.shape[1:]) for part in own]) for name, own in parts.items()}
    )


def _outline(condition: Condition) -> tuple[object, ...]:
    """The kind, the shapes of its tensors, and its other values."""
    values = (getattr(condition, field.name) for field in fields(condition))
    return type(condition), *(value.shape if isinstance(value, torch.Tensor) else value for value in values)
