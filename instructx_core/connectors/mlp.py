"""The paper's connector: a two-layer MLP in place of the DiT's text encoder (section 3.1, Fig. 3d)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import nn

from ..config import ConnectorConfig
from ..context import Context
from .connector import Connector


class MLPConnector(Connector):
    """A per-token MLP; mask and image stream pass through.

    With `reads_references`, a second MLP of the same sizes takes the tokens of a reference image (Kiwi-Edit).
    """

    def __init__(self, config: ConnectorConfig) -> None:
        super().__init__(config)
        self.linear_in = nn.Linear(config.input_dim, config.hidden_dim)
        self.activation = nn.GELU(approximate="tanh" if config.tanh_gelu else "none")
        self.linear_out = nn.Linear(config.hidden_dim, config.output_dim)
        self.reference: MLPConnector | None = None
        if config.reads_references:  # it reads the MLLM's hidden states of the picture's tokens, not of queries
            self.reference = MLPConnector(replace(config, reads_references=False))

    def forward(self, guidance: Context, reference_places: int = 0) -> Context:
        """The context; its first `reference_places` tokens come from the reference image's hidden states."""
        tokens = guidance.tokens  # [B, N, input_dim]
        if reference_places and self.reference is not None:
            first, rest = tokens[:, :reference_places], tokens[:, reference_places:]
            return replace(guidance, tokens=torch.cat([self.reference.project(first), self.project(rest)], dim=1))
        return replace(guidance, tokens=self.project(tokens))

    def project(self, hidden: torch.Tensor) -> torch.Tensor:
        """[B, N, input_dim] -> [B, N, output_dim]."""
        return self.linear_out(self.activation(self.linear_in(hidden)))  # hidden_dim in between

    def projections(self) -> Iterator[nn.Linear]:
        yield from (self.linear_in, self.linear_out)
        if self.reference is not None:
            yield from self.reference.projections()
