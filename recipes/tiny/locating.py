"""An auxiliary loss: predict from the tokens inside the DiT what is going to change.

Whether and where an edit is local is a small part of the velocity's error next to colours and noise, so it is learnt
last. The target shows it, so it can be trained directly. The locator exists in training only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from .inner_tokens import by_token

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel


class ChangeLocator(nn.Module):
    """Predicts from a DiT's tokens which latent positions the edit changes.

    Args:
        transformer: the DiT whose tokens it reads.
    """

    def __init__(self, transformer: WanTransformer3DModel) -> None:
        super().__init__()
        width = transformer.patch_embedding.out_channels
        self.patch: tuple[int, int, int] = tuple(transformer.config.patch_size)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, self.patch[0] * self.patch[1] * self.patch[2])

    def forward(self, tokens: torch.Tensor, changed: torch.Tensor) -> torch.Tensor:
        """Mean binary cross-entropy in nats; in each example, changed and unchanged positions have equal total weight.

        Args:
            tokens: [B, L, width]; those of references, after the edit's, are ignored.
            changed: bool [B, 1, t, h, w] latent positions.
        """
        wanted = by_token(changed, self.patch).float()
        told = self.head(self.norm(tokens[:, : wanted.shape[1]]))  # [B, L, positions of a patch]
        # an edit of nothing, or of everything, would otherwise divide by 0
        share = wanted.mean((1, 2), keepdim=True).clamp(1e-3, 1 - 1e-3)
        weight = wanted * (0.5 / share) + (1 - wanted) * (0.5 / (1 - share))
        return F.binary_cross_entropy_with_logits(told, wanted, weight)
