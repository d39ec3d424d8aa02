"""References as latent frames before or after the noisy ones, counted in RoPE; the DiT's output for them is dropped."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..errors import InputError
from .condition import Condition


@dataclass(frozen=True)
class ReferenceFrames(Condition):
    """All references of an edit, one after the other in time."""

    latents: torch.Tensor  # [B, C, R, H, W] normalised
    first: bool = False  # before the noisy frames, not after them
    tokens: torch.Tensor | None = None  # [B, width, r, h, w], if they have their own patch embedding

    def enter(self, latents: torch.Tensor) -> torch.Tensor:
        if self.latents.shape[-2:] != latents.shape[-2:]:
            raise InputError(
                f"A reference has latent size {tuple(self.latents.shape[-2:])}, the edit {tuple(latents.shape[-2:])}; "
                "bring the reference to the edit's size first."
            )
        # if the source has additional channels, these are zero in reference frames
        further = latents.shape[1] - self.latents.shape[1]
        own = F.pad(self.latents, (0, 0) * 3 + (0, further)) if further else self.latents
        # along time, so that RoPE and attention treat them as frames of the clip
        own = own.to(latents).expand(len(latents), -1, -1, -1, -1)
        return torch.cat([own, latents] if self.first else [latents, own], dim=2)  # [B, C', T + R, H, W]

    def embed(self, tokens: torch.Tensor, sigma: torch.Tensor | None = None) -> torch.Tensor:
        if self.tokens is None:
            return tokens
        count = self.tokens.shape[2]
        further = tokens.shape[2] - count
        is_reference = torch.arange(tokens.shape[2], device=tokens.device).view(1, 1, -1, 1, 1)
        is_reference = is_reference < count if self.first else is_reference >= further
        # zeros at the clip's frames: [B, width, t + r, h, w], like the tokens
        own = F.pad(self.tokens, (0, 0) * 2 + ((0, further) if self.first else (further, 0)))
        return in_place_of(tokens, own, is_reference)

    def leave(self, output: torch.Tensor) -> torch.Tensor:
        count = self.latents.shape[2]  # latent frames: the DiT's output is already unpatched
        return output[:, :, count:] if self.first else output[:, :, : output.shape[2] - count]


def in_place_of(tokens: torch.Tensor, own: torch.Tensor, is_reference: torch.Tensor) -> torch.Tensor:
    """Replace the DiT's embedding of references by `own` tokens where `is_reference`.

    Args:
        tokens: [B, width, t, h, w].
        own: of the same shape, or with a batch size of 1.
        is_reference: bool, broadcasts to the tokens.
    """
    return torch.where(is_reference, own, tokens)
