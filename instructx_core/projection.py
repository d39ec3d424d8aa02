"""Adaptive projected guidance (arXiv 2410.02416): less of what guidance adds along the prediction, never too much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F

FRAME = (-1, -2, -4)  # height, width and channels: each frame by itself


@dataclass(frozen=True)
class Projection:
    """How differences of predictions are changed before they are added up."""

    along: float = 0.5  # how much of a difference along the prediction counts
    most: float = 50.0  # a frame's difference is shortened to this norm

    def guided(
        self, parts: Sequence[tuple[float, torch.Tensor]], latents: torch.Tensor, sigma: torch.Tensor
    ) -> torch.Tensor:
        """The velocity [B, C, T, H, W] of a chain of velocities, each with how much its difference to the last counts.

        Args:
            parts: the first is what is guided away from; its weight is not looked at.
            latents: where the velocities are.
            sigma: the noise level there.
        """
        sigma = sigma.to(latents)
        clean = [(scale, latents - sigma * velocity) for scale, velocity in parts]
        return (latents - self.chained(clean)) / sigma

    def chained(self, clean: Sequence[tuple[float, torch.Tensor]]) -> torch.Tensor:
        """The prediction of a chain of predictions of what is without noise; see `guided`."""
        result = clean[0][1]
        for (_, before), (scale, after) in pairwise(clean):
            result = result + scale * self.projected(after - before, after)
        return result

    def projected(self, difference: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        """A difference [B, C, T, H, W] whose part along the prediction is `along` as long."""
        length = difference.norm(p=2, dim=FRAME, keepdim=True)
        difference = difference * (self.most / length).clamp(max=1)
        wide = torch.float32 if difference.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
        exact, direction = difference.to(wide), F.normalize(prediction.to(wide), dim=FRAME)
        parallel = (exact * direction).sum(FRAME, keepdim=True) * direction
        return (exact - parallel).to(difference) + self.along * parallel.to(difference)
