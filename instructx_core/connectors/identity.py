"""No connector (Fig. 3a): a text encoder's output is the context, as in Wan itself."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from ..context import Context
from .connector import Connector


class IdentityConnector(Connector):
    """[B, N, input_dim] -> the same."""

    def forward(self, guidance: Context, reference_places: int = 0) -> Context:
        return guidance  # [B, 512, D]: the DiT's own text embedding follows

    def projections(self) -> Iterator[nn.Linear]:
        yield from ()
