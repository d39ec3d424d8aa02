"""What the DiT's own layers compute alike in every step of a run is computed at its first.

- Kept are the context's embedding, its keys and values in every block, and the rotary embedding of all positions.
- Keys and values are kept by an attention processor, not by hooks: to torch.compile a block with hooks inside is one of
  its own, blocks with processors are all alike, and it makes two of the block: for the first step and for all others.
- Nothing stays in the DiT: what is kept belongs to the run, and is lent to the DiT for one forward at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from diffusers.hooks import HookRegistry, ModelHook
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttnProcessor

if TYPE_CHECKING:
    import torch
    from diffusers import WanTransformer3DModel
    from diffusers.models.transformers.transformer_wan import WanAttention
    from torch import nn

Kept = dict[str, Any]  # results by name; empty before the first step
ONCE = "instructx_computed_once"


class ContextAttention(WanAttnProcessor):
    """The cross-attention of a block, with the context's keys and values of the step before."""

    kept: Kept | None = None  # None: as diffusers has it, in training for one

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: torch.Tensor,  # [B, tokens, width]
        encoder_hidden_states: torch.Tensor,  # [B, N, width]
        attention_mask: None = None,
        rotary_emb: None = None,
    ) -> torch.Tensor:
        if self.kept is None:
            return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb)
        heads = (attn.heads, -1)
        if not self.kept:
            self.kept["key"] = attn.norm_k(attn.to_k(encoder_hidden_states)).unflatten(2, heads)
            self.kept["value"] = attn.to_v(encoder_hidden_states).unflatten(2, heads)
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, heads)
        mixed = dispatch_attention_fn(query, self.kept["key"], self.kept["value"], backend=self._attention_backend)
        mixed = mixed.flatten(2, 3).type_as(query)
        for layer in attn.to_out:
            mixed = layer(mixed)
        return mixed


class ComputedOnce(ModelHook):
    """A module that gives what it gave the step before."""

    kept: Kept | None = None

    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if self.kept is None:
            return self.fn_ref.original_forward(*args, **kwargs)
        if not self.kept:
            self.kept["output"] = self.fn_ref.original_forward(*args, **kwargs)
        return self.kept["output"]


class Keepers:
    """Whatever in a DiT, changed in place, can keep its results; it does so only while something is `lent` to it.

    Blocks that attend to a picture's own context too (Wan's image-to-video DiTs) stay as they are.
    """

    def __init__(self, transformer: WanTransformer3DModel) -> None:
        modules = (transformer.condition_embedder.text_embedder, transformer.rope)
        cross_attentions = [block.attn2 for block in transformer.blocks if block.attn2.add_k_proj is None]
        self._keepers = [*map(_once, modules), *map(_of_context, cross_attentions)]

    def nothing_yet(self) -> tuple[Kept, ...]:
        """What a run has kept before its first step: a place for each keeper."""
        return tuple({} for _ in self._keepers)

    @contextmanager
    def lent(self, kept: tuple[Kept, ...]) -> Iterator[None]:
        """Give the keepers what a run has kept, for one forward; at its first they fill it."""
        for keeper, own in zip(self._keepers, kept, strict=True):
            keeper.kept = own
        try:
            yield
        finally:
            for keeper in self._keepers:
                keeper.kept = None


def _once(module: nn.Module) -> ComputedOnce:
    registry = HookRegistry.check_if_exists_or_initialize(module)
    if registry.get_hook(ONCE) is None:
        registry.register_hook(ComputedOnce(), ONCE)
    return registry.get_hook(ONCE)


def _of_context(attention: WanAttention) -> ContextAttention:
    if not isinstance(attention.processor, ContextAttention):
        attention.set_processor(ContextAttention())
    return attention.processor
