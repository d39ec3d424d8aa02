"""Check that a source fits what is being edited."""

from __future__ import annotations

import torch

from ..errors import InputError


def check_source(source: torch.Tensor, latents: torch.Tensor) -> None:
    """Raise InputError unless a source [B, C, T, H, W] has the length and size of the latents being edited."""
    if source.shape[2] != latents.shape[2]:
        raise InputError(f"The source has {source.shape[2]} latent frames but {latents.shape[2]} are being edited.")
    if source.shape[-2:] != latents.shape[-2:]:
        raise InputError(
            f"The source has latent size {tuple(source.shape[-2:])} but {tuple(latents.shape[-2:])} is being edited."
        )
