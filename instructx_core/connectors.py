"""Guidance -> context: the two-layer MLP that stands where the DiT's text encoder stood (section 3.1)."""

from __future__ import annotations

import torch
from torch import nn

from .config import ConnectorConfig


class Connector(nn.Module):
    """[B, N, input_dim] guidance -> [B, N, output_dim] context."""

    def __init__(self, config: ConnectorConfig) -> None:
        super().__init__()
        self.config = config
        self.linear_in = nn.Linear(config.input_dim, config.hidden_dim)
        self.activation = nn.GELU()
        self.linear_out = nn.Linear(config.hidden_dim, config.output_dim)

    def forward(self, guidance: torch.Tensor) -> torch.Tensor:
        return self.linear_out(self.activation(self.linear_in(guidance)))
