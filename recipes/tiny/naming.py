"""An auxiliary loss: predict the new object's shape inside the DiT, where the edit changes something.

No word of "replace the circle with this object" says what the reference shows, so neither reading nor hearing the
instruction teaches it, and its colour affects more of the DiT's error than its shape. The reference's own tokens are
trained too, some blocks earlier: what they do not hold cannot be read from them. The namer exists in training only.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from instructx_core.training.data.world import drawn_as
from instructx_core.world import Variety, sample_new_object
from instructx_core.world.vocabulary import SHAPES

from .inner_tokens import by_token
from .reading import IGNORED

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

    from instructx_core.training.data.encoding import Encoded


class ShapeNamer(nn.Module):
    """Predicts from each of a DiT's tokens which of the world's shapes the new object has.

    Args:
        transformer: the DiT whose tokens it reads.
    """

    def __init__(self, transformer: WanTransformer3DModel) -> None:
        super().__init__()
        width = transformer.patch_embedding.out_channels
        self.patch: tuple[int, int, int] = tuple(transformer.config.patch_size)
        self.norm, self.reference_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.head, self.reference_head = nn.Linear(width, len(SHAPES)), nn.Linear(width, len(SHAPES))

    def forward(
        self, early: torch.Tensor, late: torch.Tensor, changed: torch.Tensor, wanted: torch.Tensor
    ) -> torch.Tensor:
        """Mean cross-entropy in nats over the examples with a new object, 0 if there are none: that of the late tokens
        at changed positions, plus that of the references' early tokens together.

        Args:
            early, late: [B, L, width], the references' after the edit's.
            changed: bool [B, 1, t, h, w] latent positions.
            wanted: int64 [B], indices into `SHAPES`; `IGNORED` without a new object.
        """
        return self.drawn(late, changed, wanted) + self.seen(early, changed, wanted)

    def drawn(self, tokens: torch.Tensor, changed: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Loss of predicting the drawn object's shape from the tokens at changed positions."""
        read = by_token(changed, self.patch).any(2) & (wanted != IGNORED)[:, None]  # [B, L]
        told = self.head(self.norm(tokens[:, : read.shape[1]]))  # [B, L, shapes]
        every = wanted.clamp_min(0)[:, None].expand(read.shape)  # ignored ones have weight 0
        wrong = F.cross_entropy(told.transpose(1, 2), every, reduction="none")  # [B, L]
        weight = read / read.sum(1, keepdim=True).clamp_min(1)  # large and small objects count the same
        return (wrong * weight).sum() / read.any(1).sum().clamp_min(1)

    def seen(self, tokens: torch.Tensor, changed: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Loss of predicting the shown object's shape from the references' tokens; 0 without references."""
        shown = tokens[:, by_token(changed, self.patch).shape[1] :]  # [B, L of the references, width]
        told = self.reference_head(self.reference_norm(shown)).sum(1) / max(1, shown.shape[1])  # [B, shapes]
        counts = (wanted != IGNORED) & bool(shown.shape[1])
        wrong = F.cross_entropy(told, wanted.clamp_min(0), reduction="none")  # [B]
        return (wrong * counts).sum() / counts.sum().clamp_min(1)


def new_shapes(examples: Encoded, stride: int, variety: Variety) -> torch.Tensor:
    """The shapes of the examples' new objects, int64 [N], as `ShapeNamer` takes them.

    Args:
        examples: drawn from the world in that variety.
        stride: pixels per latent.
    """
    height, width = (stride * side for side in examples.source.shape[-2:])
    return torch.tensor([_new_shape(name, examples.frames, height, width, variety) for name in examples.names])


@lru_cache(maxsize=100_000)  # each example recurs many times in a run
def _new_shape(name: str, frames: int, height: int, width: int, variety: Variety) -> int:
    group, seed = drawn_as(name)
    new = sample_new_object(seed, group, frames=frames, height=height, width=width, variety=variety)
    return IGNORED if new is None else SHAPES.index(new.shape)
