"""The interface of connectors: guidance from the MLLM in, the context that the DiT cross-attends to out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from torch import nn

from ..config import ConnectorConfig
from ..context import Context


class Connector(nn.Module, ABC):
    """Guidance, tokens [B, N, input_dim] -> context, tokens [B, M, output_dim]. One class per kind."""

    def __init__(self, config: ConnectorConfig) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def forward(self, guidance: Context, reference_places: int = 0) -> Context:
        """Convert guidance to context.

        Args:
            guidance: kinds that mix tokens apply its mask, the others pass it on.
            reference_places: number of leading tokens that belong to a reference image.
        """

    def unasking(self, context: Context) -> Context | None:
        """The context to guide away from, for one from `forward`; None: use that of an empty instruction."""
        return None

    @abstractmethod
    def projections(self) -> Iterator[nn.Linear]:
        """The linear layers that change widths, except those in residual blocks."""
