"""Wan's cross-attention with what diffusers' processor lacks: a mask, an image stream of any length, a cache.

- diffusers separates the image stream by assuming a text length of 512, which only umT5's padded prompts have.
- Local instructions with a mask each are appended to the context; each block mixes them in (`local_edits`).
- Keys and values are cached by a processor, not by hooks: torch.compile recompiles every hooked block, while with
  processors all blocks share two graphs (a run's first step, all later steps).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttnProcessor

from .compat import attention_backend
from .conditions.image_stream import attend_apart
from .conditions.local_edits import attend_in_places

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel
    from diffusers.models.transformers.transformer_wan import WanAttention

Keys = dict[str, torch.Tensor]  # keys and values by name; empty before the first step of a run


class CrossAttention(WanAttnProcessor):
    """The cross-attention processor of a block."""

    cache: Keys | None = None  # lent by `speed.run_cache` for one forward at a time; None in training, for example
    # Set by every forward and kept: blocks that checkpointing recomputes in the backward pass need them too.
    mask: torch.Tensor | None = None  # bool [B, 1, 1, N], True where a token may be attended to
    image_places: int = 0  # the context begins with this many tokens of an image stream
    image_weight: float = 1.0  # weight of its attention output
    local_masks: torch.Tensor | None = None  # [B, K, tokens]: the context ends with the tokens of K instructions
    local_places: int = 0  # tokens of each
    local_strength: torch.Tensor | None = None  # this block's

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: torch.Tensor,  # [B, tokens, width]
        encoder_hidden_states: torch.Tensor,  # [B, M + N, width]
        attention_mask: None = None,
        rotary_emb: None = None,
    ) -> torch.Tensor:
        plain = self.mask is None and attn.add_k_proj is None and self.local_masks is None
        if self.cache is None and plain:
            return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb)
        keys = self.cache or self._keys(attn, encoder_hidden_states)
        if self.cache is not None:
            self.cache.update(keys)  # only now: a failed step must not leave a half-filled cache
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        mixed = self._attend(query, keys["key"], keys["value"], self.mask)
        if self.local_masks is not None:
            local = [(keys[f"key {one}"], keys[f"value {one}"]) for one in range(self.local_masks.shape[1])]
            mixed = attend_in_places(self._attend, query, local, self.local_masks, self.local_strength, mixed)
        if self.image_places:
            image = keys["image_key"], keys["image_value"]
            mixed = attend_apart(self._attend, query, image, mixed, self.image_weight)
        mixed = mixed.flatten(2, 3).type_as(query)
        for layer in attn.to_out:
            mixed = layer(mixed)
        return mixed

    def _keys(self, attn: WanAttention, context: torch.Tensor) -> Keys:
        """Keys and values [B, tokens, heads, head] of a context [B, M + N + K * N', width]."""
        count = 0 if self.local_masks is None else self.local_masks.shape[1]
        further = [context.shape[1] - self.local_places * left for left in range(count, 0, -1)]
        image, text, *local = context.tensor_split([self.image_places, *further], dim=1)
        keys = {"key": attn.norm_k(attn.to_k(text)), "value": attn.to_v(text)}
        for one, places in enumerate(local):
            keys |= {f"key {one}": attn.norm_k(attn.to_k(places)), f"value {one}": attn.to_v(places)}
        if self.image_places:
            keys |= {"image_key": attn.norm_added_k(attn.add_k_proj(image)), "image_value": attn.add_v_proj(image)}
        return {name: values.unflatten(2, (attn.heads, -1)) for name, values in keys.items()}

    def _attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        return dispatch_attention_fn(query, key, value, attn_mask=mask, backend=attention_backend(self))


def install(transformer: WanTransformer3DModel) -> None:
    """Give every block of a DiT a `CrossAttention` processor, in place, unless it has one."""
    for block in transformer.blocks:
        if not isinstance(block.attn2.processor, CrossAttention):
            block.attn2.set_processor(CrossAttention())


def cross_attentions(transformer: WanTransformer3DModel) -> Iterator[CrossAttention]:
    """Every block's `CrossAttention`."""
    for block in transformer.blocks:
        if isinstance(block.attn2.processor, CrossAttention):
            yield block.attn2.processor


def set_context(
    transformer: WanTransformer3DModel,
    mask: torch.Tensor | None,
    image_places: int,
    image_weight: float = 1.0,
    local_masks: torch.Tensor | None = None,
    local_places: int = 0,
    local_strength: Sequence[torch.Tensor] = (),
) -> None:
    """Set the layout of the next forward's context in every block.

    Args:
        mask: bool [B, N] or None.
        image_places, image_weight: number of image stream tokens, M, and the stream's weight.
        local_masks: [B, K, tokens] for K local instructions of `local_places` tokens each, which end the context.
        local_strength: one per block, if there are local instructions.
    """
    for block, processor in enumerate(cross_attentions(transformer)):
        processor.local_masks, processor.local_places = local_masks, local_places
        processor.local_strength = local_strength[block] if local_strength else None
        processor.mask = None if mask is None else mask[:, None, None]
        processor.image_places = image_places
        processor.image_weight = image_weight
