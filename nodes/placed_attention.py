"""Replacement for a native Wan block's cross-attention, in which a token also attends to its region's instructions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from comfy.ldm.modules.attention import optimized_attention

from ..instructx_core.conditions.local_edits import attend_in_places

LOCAL = "instructx_local"  # key in a forward's options: tokens [B, K, N, D] and masks [B, K, tokens]


class PlacedAttention:
    """A block's cross-attention; without local instructions, just the original one."""

    def __init__(self, module: torch.nn.Module, own: Callable[..., torch.Tensor], strength: float) -> None:
        """
        Args:
            module: the cross-attention, whose layers are used.
            own: its original forward.
            strength: how strongly a token follows its region's instructions.
        """
        self.module, self.own, self.strength = module, own, strength

    def __call__(
        self,
        x: torch.Tensor,  # [B, tokens, width]
        context: torch.Tensor,  # [B, N, width]
        transformer_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        options = transformer_options or {}
        if LOCAL not in options:
            return self.own(x, context, transformer_options=options, **kwargs)
        module, (local, masks) = self.module, options[LOCAL]
        heads = module.num_heads
        query = module.norm_q(module.q(x))

        def projected(tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return module.norm_k(module.k(tokens)), module.v(tokens)

        def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            found = optimized_attention(query, key, value, heads=heads, transformer_options=options)
            return found.unflatten(-1, (heads, -1))  # [B, tokens, heads, head]

        pairs = [projected(local[:, one].to(x)) for one in range(local.shape[1])]
        attended = attend(query, *projected(context))
        strength = torch.tensor(self.strength, device=x.device)
        return module.o(attend_in_places(attend, query, pairs, masks.to(x), strength, attended).flatten(2))
