"""An auxiliary loss: the instruction read back, inside the DiT, from where the edit changes something.

The DiT's error alone teaches it those words first that move much of the error: of a new shape its colour and size. Star
and triangle, which differ in a few pixels, came out as the same blob until their words had to be there. The reader
exists in training only.
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
        vocabulary: tokens of the MLLM.
    """

    def __init__(self, transformer: WanTransformer3DModel, vocabulary: int) -> None:
        super().__init__()
        self.patch: tuple[int, int, int] = tuple(transformer.config.patch_size)
        self.reader = InstructionReader(transformer.patch_embedding.out_channels, vocabulary)

    def forward(self, tokens: torch.Tensor, changed: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy, in nats a token of the instruction.

        Args:
            tokens: [B, L, width]; those of references, after the edit's, are left out.
            changed: bool [B, 1, t, h, w] latent positions; where there are none, all tokens are read.
            wanted: as of `InstructionReader`.
        """
        read = by_token(changed, self.patch).any(2)  # [B, L]
        read = read | ~read.any(1, keepdim=True)
        return self.reader(tokens[:, : read.shape[1]], wanted, hidden=~read)
