"""All hidden states through a Q-Former to a fixed number of tokens (Fig. 3b): BLIP-2's, as transformers has it.

The learnable tokens are the Q-Former's own: those that the MLLM would read as queries do not exist in this variant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import nn

from ..config import ConnectorConfig
from ..context import Context
from .connector import Connector

TOKEN_SIZE = 0.02  # standard deviation of fresh tokens, BLIP-2's initializer_range


class QFormerConnector(Connector):
    """[B, N, input_dim] with a mask -> [B, tokens, output_dim] without one."""

    def __init__(self, config: ConnectorConfig) -> None:
        from transformers import Blip2QFormerConfig, Blip2QFormerModel

        super().__init__(config)
        width = config.hidden_dim
        self.tokens = nn.Parameter(torch.randn(1, config.tokens, width) * TOKEN_SIZE)
        self.qformer = Blip2QFormerModel(
            Blip2QFormerConfig(
                hidden_size=width,
                num_hidden_layers=config.layers,
                num_attention_heads=width // config.head_dim,
                intermediate_size=4 * width,
                encoder_hidden_size=config.input_dim,  # every second layer cross-attends
                hidden_dropout_prob=0.0,  # the DiT's losses are compared step by step
                attention_probs_dropout_prob=0.0,
            )
        )
        self.projection = nn.Linear(width, config.output_dim)

    def forward(self, guidance: Context, reference_places: int = 0) -> Context:
        hidden = guidance.tokens  # [B, N, input_dim]
        read = self.qformer(
            query_embeds=self.tokens.expand(len(hidden), -1, -1),
            encoder_hidden_states=hidden,
            encoder_attention_mask=guidance.mask,
        ).last_hidden_state  # [B, tokens, hidden_dim]
        # the places of padding are gone with the mask
        return replace(guidance, tokens=self.projection(read), mask=None)

    def projections(self) -> Iterator[nn.Linear]:
        yield self.projection
