"""The source through its own patch embedding, added to the DiT's embedding of the noisy latent."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .condition import SourceCondition
from .sizes import check_source


@dataclass(frozen=True)
class SourceEmbed(SourceCondition):
    """tokens + the source's tokens, scaled by `strength` and, if it fades, by sigma.

    The source's tokens are the same in all steps of a run: the owner of the embedding computes them once.
    """

    tokens: torch.Tensor  # [B, width, t, h, w]; zero at reference frames
    fades: bool = False  # scaled by sigma, so it fades with the noise
    strength: torch.Tensor | None = None  # broadcasts to the tokens; None: 1

    def enter(self, latents: torch.Tensor) -> torch.Tensor:
        check_source(self.source, latents)
        return latents

    def embed(self, tokens: torch.Tensor, sigma: torch.Tensor | None = None) -> torch.Tensor:
        own = self.tokens
        if self.strength is not None:
            own = own * self.strength
        if self.fades and sigma is not None:
            # float32, because bfloat16 would round the noise level to eight bits
            own = (own * sigma.to(own.device, torch.float32).view(-1, 1, 1, 1, 1)).to(own.dtype)
        return tokens + own
