"""The source through a patch embedding of its own, added to what the DiT's made of the noisy latent."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .condition import SourceCondition
from .sizes import check_source


@dataclass(frozen=True)
class SourceEmbed(SourceCondition):
    """tokens + the source's tokens, as strongly as `strength` and, where it fades, sigma say.

    The tokens are the source's for all steps of a run: whoever has the embedding computes them once.
    """

    tokens: torch.Tensor  # [B, width, t, h, w]; zero at frames of references
    fades: bool = False  # counts sigma times: less and less as the noise goes
    strength: torch.Tensor | None = None  # broadcasts to the tokens; None: fully

    def enter(self, latents: torch.Tensor) -> torch.Tensor:
        check_source(self.source, latents)
        return latents

    def embed(self, tokens: torch.Tensor, sigma: torch.Tensor | None = None) -> torch.Tensor:
        own = self.tokens
        if self.strength is not None:
            own = own * self.strength
        if self.fades and sigma is not None:
            # in float32: bfloat16 would round the noise level to eight bits
            own = (own * sigma.to(own.device, torch.float32).view(-1, 1, 1, 1, 1)).to(own.dtype)
        return tokens + own
