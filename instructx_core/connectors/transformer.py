"""MetaQuery's connector (Fig. 3c): a bidirectional encoder over the queries, then the projection to the context.

Its layers are Qwen2's without the causal mask, as wide as the MLLM and with feed-forwards four times that wide: 24 of
them on Qwen2.5-VL-3B have 1.61B parameters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import nn

from ..config import ConnectorConfig
from ..context import Context
from .connector import Connector
from .mlp import MLPConnector

THETA = 10000.0  # RoPE's base, Qwen2's


class TransformerConnector(Connector):
    """[B, N, input_dim] -> [B, N, output_dim]; every token attends to every other that the mask allows."""

    def __init__(self, config: ConnectorConfig) -> None:
        from transformers import Qwen2Config
        from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer, Qwen2RMSNorm

        super().__init__(config)
        width, heads = config.input_dim, config.input_dim // config.head_dim
        sizes = Qwen2Config(
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=config.layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            attn_implementation="sdpa",
        )
        self.layers = nn.ModuleList(Qwen2DecoderLayer(sizes, layer) for layer in range(config.layers))
        for layer in self.layers:
            layer.self_attn.is_causal = False  # MetaQuery's encoder is bidirectional, Qwen2's decoder is not
        self.norm = Qwen2RMSNorm(width, eps=sizes.rms_norm_eps)
        self.projection = MLPConnector(config)

    def forward(self, guidance: Context, reference_places: int = 0) -> Context:
        hidden = guidance.tokens  # [B, N, input_dim]
        mask = None if guidance.mask is None else guidance.mask[:, None, None]  # [B, 1, 1, N]
        rotation = rotations(hidden, self.config.head_dim)
        for layer in self.layers:
            hidden = layer(hidden, attention_mask=mask, position_embeddings=rotation)
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden  # transformers 4.57 wraps it
        return replace(guidance, tokens=self.projection.project(self.norm(hidden)))  # [B, N, output_dim]

    def projections(self) -> Iterator[nn.Linear]:
        return self.projection.projections()


def rotations(hidden: torch.Tensor, head_dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines [1, N, head_dim] of RoPE for [B, N, width].

    Computed in float32 each time: in a module's buffer the frequencies would be cast with its weights.
    """
    frequencies = THETA ** -(torch.arange(0, head_dim, 2, dtype=torch.float32, device=hidden.device) / head_dim)
    places = torch.arange(hidden.shape[1], dtype=torch.float32, device=hidden.device)
    angles = torch.outer(places, frequencies).repeat(1, 2)[None]
    return angles.cos().to(hidden.dtype), angles.sin().to(hidden.dtype)
