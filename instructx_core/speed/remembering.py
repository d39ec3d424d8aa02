"""What the DiT's own layers compute alike in every step of a run is computed at its first.

- Kept are the context's embedding, its keys and values in every block, and the rotary embedding of all positions.
- Keys and values are kept by an attention processor, not by hooks: to torch.compile a block with hooks inside is one of
  its own, blocks with processors are all alike, and it makes two of the block: for the first step and for all others.
- Nothing stays in the DiT: what is kept belongs to the run, and is lent to the DiT for one forward at a time. It can be
  copied as any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttnProcessor

from ..compat import attention_backend

if TYPE_CHECKING:
    import torch
    from diffusers import WanTransformer3DModel
    from diffusers.models.transformers.transformer_wan import WanAttention
    from torch import nn

Kept = dict[str, Any]  # results by name; empty before the first step


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
            key = attn.norm_k(attn.to_k(encoder_hidden_states)).unflatten(2, heads)
            value = attn.to_v(encoder_hidden_states).unflatten(2, heads)
            self.kept["key"], self.kept["value"] = key, value
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, heads)
        mixed = dispatch_attention_fn(query, self.kept["key"], self.kept["value"], backend=attention_backend(self))
        mixed = mixed.flatten(2, 3).type_as(query)
        for layer in attn.to_out:
            mixed = layer(mixed)
        return mixed


class Keepers:
    """Whatever in a DiT can keep its results; it does so only while something is `lent` to it.

    Blocks that attend to a picture's own context too (Wan's image-to-video DiTs) stay as they are.
    """

    def __init__(self, transformer: WanTransformer3DModel) -> None:
        self._modules = (transformer.condition_embedder.text_embedder, transformer.rope)
        cross_attentions = [block.attn2 for block in transformer.blocks if block.attn2.add_k_proj is None]
        self._attentions = [_of_context(attention) for attention in cross_attentions]

    def nothing_yet(self) -> tuple[Kept, ...]:
        """What a run has kept before its first step: a place for each keeper."""
        return tuple({} for _ in (*self._modules, *self._attentions))

    @contextmanager
    def lent(self, kept: tuple[Kept, ...]) -> Iterator[None]:
        """Give the keepers what a run has kept, for one forward; at its first they fill it."""
        with ExitStack() as stack:
            of_modules, of_attentions = kept[: len(self._modules)], kept[len(self._modules) :]
            for module, own in zip(self._modules, of_modules, strict=True):
                stack.enter_context(_giving_what_it_gave(module, own))
            stack.callback(self._lend, [None] * len(self._attentions))
            self._lend(of_attentions)
            yield

    def _lend(self, kept: Sequence[Kept | None]) -> None:
        for attention, own in zip(self._attentions, kept, strict=True):
            attention.kept = own


def _of_context(attention: WanAttention) -> ContextAttention:
    if not isinstance(attention.processor, ContextAttention):
        attention.set_processor(ContextAttention())
    return attention.processor


@contextmanager
def _giving_what_it_gave(module: nn.Module, kept: Kept) -> Iterator[None]:
    """A module whose forward gives what it gave the step before to a tensor of the same shape."""
    own = module.forward

    def forward(given: torch.Tensor) -> Any:
        if kept.get("shape") != given.shape:
            kept.update(shape=given.shape, output=own(given))
        return kept["output"]

    of_instance = "forward" in vars(module)  # where offloading has put one there
    module.forward = forward
    try:
        yield
    finally:
        if of_instance:
            module.forward = own
        else:
            del module.forward
