"""The mask of where an instruction acts in a clip, from the MLLM's hidden states of the clip's tokens.

A few learned tokens and the clip's tokens attend to each other in turns, with the instruction's context appended to the
clip's (like SAM's decoder, with words instead of clicks). The dot product of the first learned token, after an MLP,
with a clip token is the logit of its position.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from .config import MaskConfig
from .errors import InputError


class MaskHead(nn.Module):
    """Hidden states of a clip's tokens and an instruction's context -> mask [B, t, h, w] in [0, 1]."""

    def __init__(self, config: MaskConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.proj_v, self.norm_v_in = nn.Linear(config.input_dim, width), nn.LayerNorm(width)
        self.proj_c, self.norm_c_in = nn.Linear(config.context_dim, width), nn.LayerNorm(width)
        self.query_embed = nn.Parameter(torch.randn(config.tokens, width) * 0.02)
        self.pe_t, self.pe_h, self.pe_w = (nn.Parameter(torch.randn(side, width) * 0.02) for side in config.grid)
        self.type_emb_visual, self.type_emb_prompt = (nn.Parameter(torch.randn(width) * 0.02) for _ in range(2))
        self.blocks = nn.ModuleList(TwoWayBlock(width, config.heads) for _ in range(config.layers))
        self.norm_q_final, self.norm_v_final = nn.LayerNorm(width), nn.LayerNorm(width)
        self.final_q_to_v = MaskAttention(width, config.heads)
        self.mask_mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, seen: torch.Tensor, grid: tuple[int, int, int], context: torch.Tensor) -> torch.Tensor:
        """Predict the mask.

        Args:
            seen: [B, t * h * w, input_dim], in row-major order.
            grid: t, h, w.
            context: [B, N, context_dim].

        Raises:
            InputError: a grid that is longer along an axis than the head was trained with.
        """
        if any(side > most for side, most in zip(grid, self.config.grid, strict=True)):
            raise InputError(
                f"The MLLM sees the clip as {' x '.join(map(str, grid))} tokens (time, height, width), but masks have "
                f"at most {' x '.join(map(str, self.config.grid))}; give a shorter or smaller clip."
            )
        time, height, width = grid
        places = (
            self.pe_t[:time, None, None] + self.pe_h[None, :height, None] + self.pe_w[None, None, :width]
        ).flatten(0, 2)  # [t * h * w, width]
        visual = self.norm_v_in(self.proj_v(seen)) + places + self.type_emb_visual
        words = self.norm_c_in(self.proj_c(context)) + self.type_emb_prompt
        around = torch.cat([visual, words], dim=1)  # [B, t * h * w + N, width]
        tokens = self.query_embed.expand(len(seen), -1, -1)
        for block in self.blocks:
            tokens, around = block(tokens, around)
        tokens = tokens + self.final_q_to_v(self.norm_q_final(tokens), self.norm_v_final(around))
        mask = self.mask_mlp(tokens[:, 0])  # [B, width]
        logits = torch.einsum("b d, b n d -> b n", mask, around[:, : seen.shape[1]])
        return rearrange(logits.sigmoid(), "b (t h w) -> b t h w", t=time, h=height)


class TwoWayBlock(nn.Module):
    """Tokens attend to themselves, then to the positions, then the positions to the tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        for name in ("q1", "q2", "q3", "q_kv1", "v1", "v2", "v_kv1"):
            setattr(self, f"norm_{name}", nn.LayerNorm(width))
        self.self_attn, self.q_to_v, self.v_to_q = (MaskAttention(width, heads) for _ in range(3))
        self.q_ffn, self.v_ffn = FeedForward(width), FeedForward(width)

    def forward(self, tokens: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        own = self.norm_q1(tokens)
        tokens = tokens + self.self_attn(own, own)
        tokens = tokens + self.q_to_v(self.norm_q2(tokens), self.norm_v_kv1(places))
        places = places + self.v_to_q(self.norm_v1(places), self.norm_q_kv1(tokens))
        return tokens + self.q_ffn(self.norm_q3(tokens)), places + self.v_ffn(self.norm_v2(places))


class MaskAttention(nn.Module):
    """Multi-head attention of one sequence to another."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, query: torch.Tensor, looked_at: torch.Tensor) -> torch.Tensor:
        projected = (self.q_proj(query), self.k_proj(looked_at), self.v_proj(looked_at))
        split = (rearrange(values, "b n (h d) -> b h n d", h=self.heads) for values in projected)
        return self.o_proj(rearrange(F.scaled_dot_product_attention(*split), "b h n d -> b n (h d)"))


class FeedForward(nn.Module):
    """Two linear layers, four times as wide between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.net(values)
