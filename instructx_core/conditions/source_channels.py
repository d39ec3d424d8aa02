"""The source as additional channels after the noisy ones (InsightEdit, Lucy-Edit): the DiT's embedding reads both."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .condition import SourceCondition
from .sizes import check_source


@dataclass(frozen=True)
class SourceChannels(SourceCondition):
    """[noisy channels, source channels]; the DiT has in_channels = 2 C and out_channels = C."""

    def enter(self, latents: torch.Tensor) -> torch.Tensor:
        check_source(self.source, latents)
        source = self.source.to(latents).expand(len(latents), -1, -1, -1, -1)
        # in the order of these models' trained first layers
        return torch.cat([latents, source], dim=1)  # [B, 2 C, T, H, W]
