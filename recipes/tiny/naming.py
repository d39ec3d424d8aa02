"""An auxiliary loss: the new object's shape, named inside the DiT where the edit changes something.

No word of "replace the circle with this object" says what the reference shows, so neither reading nor hearing the
instruction asks for it, and its colour moves more of the DiT's error than its shape. The reference's own tokens are
asked first, some blocks earlier: what they do not know cannot be read from them. The namer exists in training only.
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
    """Tells from each of a DiT's tokens which of the world's shapes the new object has.

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
        """Mean cross-entropies in nats over the examples that have a new object, 0 where none has: of the changed
        places' late tokens, and of the references' early ones together.

        Args:
            early, late: [B, L, width], the references' after the edit's.
            changed: bool [B, 1, t, h, w] latent positions.
            wanted: int64 [B], places in `SHAPES`; `IGNORED` without a new object.
        """
        return self.drawn(late, changed, wanted) + self.seen(early, changed, wanted)

    def drawn(self, tokens: torch.Tensor, changed: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """What the changed places' tokens tell of the object that is drawn there."""
        read = by_token(changed, self.patch).any(2) & (wanted != IGNORED)[:, None]  # [B, L]
        told = self.head(self.norm(tokens[:, : read.shape[1]]))  # [B, L, shapes]
        every = wanted.clamp_min(0)[:, None].expand(read.shape)  # those that are ignored weigh 0
        wrong = F.cross_entropy(told.transpose(1, 2), every, reduction="none")  # [B, L]
        weight = read / read.sum(1, keepdim=True).clamp_min(1)  # large objects count as small ones do
        return (wrong * weight).sum() / read.any(1).sum().clamp_min(1)

    def seen(self, tokens: torch.Tensor, changed: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """What the references' tokens tell of the object that they show; 0 without references."""
        shown = tokens[:, by_token(changed, self.patch).shape[1] :]  # [B, L of the references, width]
        told = self.reference_head(self.reference_norm(shown)).sum(1) / max(1, shown.shape[1])  # [B, shapes]
        counts = (wanted != IGNORED) & bool(shown.shape[1])
        wrong = F.cross_entropy(told, wanted.clamp_min(0), reduction="none")  # [B]
        return (wrong * counts).sum() / counts.sum().clamp_min(1)


def new_shapes(examples: Encoded, stride: int, variety: Variety) -> torch.Tensor:
    """The shapes of the examples' new objects, int64 [N], as `ShapeNamer` takes them.

    Args:
        examples: of the world, drawn in that variety.
        stride: pixels that a latent spans.
    """
    height, width = (stride * side for side in examples.source.shape[-2:])
    return torch.tensor([_new_shape(name, examples.frames, height, width, variety) for name in examples.names])


@lru_cache(maxsize=100_000)  # each example is asked for many times in a run
def _new_shape(name: str, frames: int, height: int, width: int, variety: Variety) -> int:
    group, seed = drawn_as(name)
    new = sample_new_object(seed, group, frames=frames, height=height, width=width, variety=variety)
    return IGNORED if new is None else SHAPES.index(new.shape)
