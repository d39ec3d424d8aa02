"""The source added to the noisy latent itself (InstructX, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .condition import SourceCondition
from .sizes import check_source


@dataclass(frozen=True)
class SourceAdd(SourceCondition):
    """latents + source."""

    def enter(self, latents: torch.Tensor) -> torch.Tensor:
        """Add the source; channels after the noisy ones (image-to-video models) stay unchanged."""
        check_source(self.source, latents)
        # [B, C', T, H, W] of an image-to-video model: noisy channels first, then its mask and picture
        further = latents.shape[1] - self.source.shape[1]
        source = F.pad(self.source, (0, 0) * 3 + (0, further)) if further else self.source
        return latents + source.to(latents)
