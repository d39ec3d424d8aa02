"""Read with a Qwen3-VL, whose vision features enter the language model at several depths, not just at its input.

A clip is one run of placeholders per temporal patch, with the times in words between them, so positions need no pace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from .guidance import GuidanceInputs
from .positions import positions

if TYPE_CHECKING:
    from transformers import Qwen3VLForConditionalGeneration

PATCH = 16
MEAN = STD = (0.5, 0.5, 0.5)


def states_before_norm(
    mllm: Qwen3VLForConditionalGeneration, inputs: GuidanceInputs, behind: torch.Tensor
) -> torch.Tensor:
    """The last layer's output [B, L + N, hidden], before the model's final norm.

    Args:
        inputs: the prompt, L tokens.
        behind: embeddings [N, hidden] that follow it.
    """
    embeds = mllm.get_input_embeddings()(inputs.token_ids)
    config = mllm.config
    is_picture = (inputs.token_ids == config.image_token_id) | (inputs.token_ids == config.video_token_id)
    seen = mllm.model.visual(inputs.patches.to(embeds.dtype), grid_thw=inputs.grids)
    # transformers 4.57 returns a tuple
    vision, deepstack = seen if isinstance(seen, tuple) else (seen.pooler_output, seen.deepstack_features)
    if embeds.is_meta:  # a plan's tensors have no values, so a mask cannot select positions
        deepstack = None
    embeds = embeds.masked_scatter(is_picture[..., None], vision.to(embeds.dtype))
    embeds = torch.cat([embeds, behind.to(embeds).expand(len(embeds), -1, -1)], dim=1)  # [B, L + N, hidden]
    whole = torch.zeros(embeds.shape[:2], dtype=torch.bool, device=embeds.device)
    whole[:, : is_picture.shape[1]] = is_picture
    mask = None if bool(inputs.attention_mask.all()) else inputs.attention_mask
    found: list[torch.Tensor] = []

    def keep(_norm: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        found.append(arguments[0])

    language = mllm.model.language_model
    handle = language.norm.register_forward_pre_hook(keep)
    try:
        language(
            inputs_embeds=embeds, attention_mask=mask, position_ids=inputs.position_ids, use_cache=False,
            visual_pos_masks=whole, deepstack_visual_embeds=deepstack,
        )  # fmt: skip
    finally:
        handle.remove()
    return found[0]


def qwen3_positions(
    ids: Sequence[int], grids: Sequence[tuple[int, int, int]], image_token: int, video_token: int
) -> torch.Tensor:
    """As `positions`; each temporal patch of a grid is a separate run."""
    runs = [(1, height, width) for time, height, width in grids for _ in range(time)]
    return positions(ids, runs, image_token, video_token, tokens_per_second=1)
