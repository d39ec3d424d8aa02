"""An auxiliary loss: predict the instruction inside the DiT, from the positions that the edit changes.

From its own error alone, the DiT first learns the words that affect much of that error: a new shape's colour and size.
Star and triangle, which differ in a few pixels, came out as the same blob until this loss asked for their words. The
reader exists in training only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from .inner_tokens import by_token
from .reading import InstructionReader

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel


class InstructionHearer(nn.Module):
    """Predicts an instruction's words from the DiT's tokens.

    Args:
        transformer: the DiT whose tokens it reads.
        vocabulary: number of the MLLM's tokens.
    """

    def __init__(self, transformer: WanTransformer3DModel, vocabulary: int) -> None:
        super().__init__()
        self.patch: tuple[int, int, int] = tuple(transformer.config.patch_size)
        self.reader = InstructionReader(transformer.patch_embedding.out_channels, vocabulary)

    def forward(self, tokens: torch.Tensor, changed: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy, in nats per token of the instruction.

        Args:
            tokens: [B, L, width]; those of references, after the edit's, are ignored.
            changed: bool [B, 1, t, h, w] latent positions; if an example has none, all its tokens are read.
            wanted: as in `InstructionReader`.
        """
        read = by_token(changed, self.patch).any(2)  # [B, L]
        read = read | ~read.any(1, keepdim=True)
        return self.reader(tokens[:, : read.shape[1]], wanted, hidden=~read)
