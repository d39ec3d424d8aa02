"""Guidance -> context: the two-layer MLP that stands where the DiT's text encoder stood (section 3.1)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from .config import ConnectorConfig
from .context import Context


class Connector(nn.Module):
    """Guidance, tokens [B, N, input_dim] -> context, tokens [B, N, output_dim]; mask and image stream pass through.

    Where the config asks for it, a second MLP of the same sizes takes the places of a reference image (Kiwi-Edit).
    """

    def __init__(self, config: ConnectorConfig) -> None:
        super().__init__()
        self.config = config
        self.linear_in = nn.Linear(config.input_dim, config.hidden_dim)
        self.activation = nn.GELU(approximate="tanh" if config.tanh_gelu else "none")
        self.linear_out = nn.Linear(config.hidden_dim, config.output_dim)
        self.reference: Connector | None = None
        if config.reads_references:
            self.reference = Connector(replace(config, reads_references=False))

    def forward(self, guidance: Context, reference_places: int = 0) -> Context:
        """The context, of which the first `reference_places` come from a reference image's own hidden states."""
        tokens = guidance.tokens
        if reference_places and self.reference is not None:
            first, rest = tokens[:, :reference_places], tokens[:, reference_places:]
            return replace(guidance, tokens=torch.cat([self.reference.project(first), self.project(rest)], dim=1))
        return replace(guidance, tokens=self.project(tokens))

    def project(self, hidden: torch.Tensor) -> torch.Tensor:
        """[B, N, input_dim] -> [B, N, output_dim]."""
        return self.linear_out(self.activation(self.linear_in(hidden)))
