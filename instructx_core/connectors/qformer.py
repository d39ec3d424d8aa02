"""All hidden states through a Q-Former to a fixed number of tokens (Fig. 3b): transformers' BLIP-2 Q-Former.

The learnable tokens are the Q-Former's: in this variant the MLLM reads no queries.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..config import ConnectorConfig
from ..context import Context
from .connector import Connector

if TYPE_CHECKING:
    from transformers import Blip2QFormerModel

TOKEN_SIZE = 0.02  # standard deviation of fresh tokens, the initializer_range of BERT and of BLIP-2
BERT_WIDTH = 768  # the width that this initializer_range suits
CONTEXT_SIZE = 0.23  # standard deviation of a fresh context, as the paper's MLP makes it


def fresh_tokens(config: ConnectorConfig) -> nn.Parameter:
    """Freshly initialised query tokens [1, tokens, hidden_dim] of a Q-Former."""
    return nn.Parameter(torch.randn(1, config.tokens, config.hidden_dim) * TOKEN_SIZE)


def make_qformer(config: ConnectorConfig, spread: float = TOKEN_SIZE) -> Blip2QFormerModel:
    """BLIP-2's Q-Former with fresh weights of standard deviation `spread`, sized by a connector's config."""
    from transformers import Blip2QFormerConfig, Blip2QFormerModel

    return Blip2QFormerModel(
        Blip2QFormerConfig(
            hidden_size=config.hidden_dim,
            num_hidden_layers=config.layers,
            num_attention_heads=config.hidden_dim // config.head_dim,
            intermediate_size=4 * config.hidden_dim,
            encoder_hidden_size=config.input_dim,  # every second layer cross-attends
            initializer_range=spread,
            hidden_dropout_prob=0.0,  # the DiT's losses must be comparable step by step
            attention_probs_dropout_prob=0.0,
        )
    )


class QFormerConnector(Connector):
    """[B, N, input_dim] with a mask -> [B, tokens, output_dim] without one.

    Fresh weights let the instruction through, and the context start small. With PyTorch's and BERT's defaults at width
    128, the context was 2.5 times as large as the MLP's and differed by 1 % between instructions; training made it a
    constant (arm (b) of benchmarks/studies/4-alignment.yaml).
    """

    def __init__(self, config: ConnectorConfig) -> None:
        super().__init__(config)
        self.tokens = fresh_tokens(config)
        self.qformer = make_qformer(config, TOKEN_SIZE * math.sqrt(BERT_WIDTH / config.hidden_dim))
        self.projection = nn.Linear(config.hidden_dim, config.output_dim)
        nn.init.normal_(self.projection.weight, std=CONTEXT_SIZE / math.sqrt(config.hidden_dim))  # after a layer norm
        nn.init.zeros_(self.projection.bias)

    def forward(self, guidance: Context, reference_places: int = 0) -> Context:
        hidden = guidance.tokens  # [B, N, input_dim]
        read = self.qformer(
            query_embeds=self.tokens.expand(len(hidden), -1, -1),
            encoder_hidden_states=hidden,
            encoder_attention_mask=guidance.mask,
        ).last_hidden_state  # [B, tokens, hidden_dim]
        # the output has no padding, so no mask
        return replace(guidance, tokens=self.projection(read), mask=None)

    def projections(self) -> Iterator[nn.Linear]:
        yield self.projection
