"""An editing example, whatever its origin."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Example:
    """One editing triplet as pixels, float [T, H, W, 3] in [0, 1], in a size and length that the model takes."""

    source: torch.Tensor
    target: torch.Tensor
    references: tuple[torch.Tensor, ...]  # [H, W, 3] each
    instruction: str
    caption: str  # of the target; "" if there is none
    is_video: bool
    name: str  # its origin, for messages

    @property
    def shape(self) -> tuple[int, ...]:
        """What the examples of a batch share: kind, frames, height, width, number of references."""
        return (int(self.is_video), *self.source.shape[:3], len(self.references))

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in (self.source, self.target, *self.references))
