"""What the tiny model's DiT predicts relative to the source, and the velocity that follows from it.

To predict a velocity, a DiT must redraw everything, even what an edit leaves alone; Wan's pre-training pays for that. A
model trained from scratch on little data starts better from "change nothing", which here is an output of zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch


@dataclass(frozen=True)
class ChangePrediction:
    """The change itself, data - source; see `instructx_core.prediction.SourcePrediction`.

    Args:
        deadband: see `keep_still`.
    """

    deadband: float = 0.0

    outputs: ClassVar[int] = 1

    def velocity(
        self, output: torch.Tensor, latents: torch.Tensor, source: torch.Tensor, sigma: torch.Tensor
    ) -> torch.Tensor:
        """The velocity that leads from `latents` to source + change."""
        still = keep_still(self.change(output, source), self.deadband)
        return (latents - source - still) / sigma.to(latents).view(-1, 1, 1, 1, 1)

    def change(self, output: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """The predicted data - source, [B, C, T, H, W]."""
        return output


@dataclass(frozen=True)
class AffinePrediction(ChangePrediction):
    """A gain and an offset for each latent value: the change is gain * source + offset.

    To draw a plain shape on a busy background, a change must cancel the background value by value; a gain of -1 does so
    with the same output at every position. Lightening, darkening and inverting are gains too.
    """

    outputs: ClassVar[int] = 2

    def change(self, output: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """As `ChangePrediction.change`, for an output [B, 2 C, T, H, W]: the gains, then the offsets."""
        gain, offset = output.chunk(2, dim=1)
        return gain * source.to(output) + offset


def keep_still(change: torch.Tensor, deadband: float) -> torch.Tensor:
    """Set `change` [B, C, T, H, W] to zero where it is small.

    A regression never predicts exactly zero, so what an edit should leave alone drifts slightly everywhere. A position
    (all channels of one t, h, w) keeps its source when its RMS is below `deadband` times the RMS of the whole change;
    above that, it is shrunk less and less: the non-negative garrote (Breiman 1995), continuous at the threshold.
    """
    if not deadband:
        return change
    power = change.float().square().mean(1, keepdim=True)
    floor = deadband**2 * power.mean((2, 3, 4), keepdim=True).detach()
    tiny = torch.finfo(power.dtype).tiny
    return change * (1 - floor / power.clamp(min=tiny)).clamp(min=0).to(change)
