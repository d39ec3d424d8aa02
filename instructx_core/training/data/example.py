"""An editing example, whatever it was read from."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Example:
    """One editing triplet in pixels, float [T, H, W, 3] in [0, 1], at the model's stride and length."""

    source: torch.Tensor
    target: torch.Tensor
    references: tuple[torch.Tensor, ...]  # [H, W, 3] each
    instruction: str
    caption: str  # of the target; "" where nobody wrote one
    is_video: bool
    name: str  # where it is from, for messages

    @property
    def shape(self) -> tuple[int, ...]:
        """What examples of one batch have in common: kind, frames, height, width, references."""
        return (int(self.is_video), *self.source.shape[:3], len(self.references))

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in (self.source, self.target, *self.references))
