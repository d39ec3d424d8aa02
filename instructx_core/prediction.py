"""The meaning of a DiT's output in families that predict something other than the velocity, noise - data."""

from __future__ import annotations

from typing import Protocol

import torch


class SourcePrediction(Protocol):
    """Converts an output to a velocity, given the source; shared by the denoiser and the nodes."""

    @property
    def outputs(self) -> int:
        """Output channels of the DiT per latent channel."""

    def velocity(
        self, output: torch.Tensor, latents: torch.Tensor, source: torch.Tensor, sigma: torch.Tensor
    ) -> torch.Tensor:
        """The velocity, noise - data, [B, C, T, H, W].

        Args:
            output: of the DiT, [B, outputs * C, T, H, W].
            latents: the DiT's noisy latents, [B, C, T, H, W] normalised.
            source: the source's latents, likewise.
            sigma: [B] or scalar, above 0; 1 = noise.
        """
