"""Adaptive projected guidance (arXiv 2410.02416): damp guidance along the prediction and limit its norm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F

FRAME = (1, -2, -1)  # channels, height and width: each frame separately


@dataclass(frozen=True)
class Projection:
    """How differences of predictions are changed before they are summed."""

    along: float = 0.5  # scale of a difference's component along the prediction
    most: float = 50.0  # maximum norm of a frame's difference

    def guided(
        self, parts: Sequence[tuple[float, torch.Tensor]], latents: torch.Tensor, sigma: torch.Tensor
    ) -> torch.Tensor:
        """The guided velocity [B, C, T, H, W] of a chain of (scale of the difference from the one before, velocity).

        Args:
            parts: the first is the one guided away from; its scale is ignored.
            latents: the noisy latents at which the velocities were predicted.
            sigma: their noise level.
        """
        sigma = sigma.to(latents)
        clean = [(scale, latents - sigma * velocity) for scale, velocity in parts]
        return (latents - self.chained(clean)) / sigma

    def chained(self, clean: Sequence[tuple[float, torch.Tensor]]) -> torch.Tensor:
        """The guided prediction of a chain of predictions of the clean data; see `guided`."""
        result = clean[0][1]
        for (_, before), (scale, after) in pairwise(clean):
            result = result + scale * self.projected(after - before, after)
        return result

    def projected(self, difference: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        """A difference, shortened to norm `most`, with its component along the prediction scaled.

        Args:
            difference, prediction: [B, C, T, H, W], or [B, C, H, W] of pictures.
        """
        length = difference.norm(p=2, dim=FRAME, keepdim=True)
        difference = difference * (self.most / length).clamp(max=1)
        wide = torch.float32 if difference.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
        exact, direction = difference.to(wide), F.normalize(prediction.to(wide), dim=FRAME)
        parallel = (exact * direction).sum(FRAME, keepdim=True) * direction
        return (exact - parallel).to(difference) + self.along * parallel.to(difference)
