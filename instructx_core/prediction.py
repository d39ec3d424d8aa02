"""What a DiT's output means, where a family trained it to predict something else than the velocity, noise - data."""

from __future__ import annotations

from typing import Protocol

import torch


class SourcePrediction(Protocol):
    """How an output becomes a velocity, given the source; one value for the denoiser and the nodes alike."""

    @property
    def outputs(self) -> int:
        """Channels of the DiT's output for each channel of a latent."""

    def velocity(
        self, output: torch.Tensor, latents: torch.Tensor, source: torch.Tensor, sigma: torch.Tensor
    ) -> torch.Tensor:
        """noise - data, [B, C, T, H, W].

        Args:
            output: of the DiT, [B, outputs * C, T, H, W].
            latents: what was denoised, [B, C, T, H, W] normalised.
            source: what is edited, likewise.
            sigma: [B] or scalar, above 0; 1 = noise.
        """
