"""Config values of a Qwen3-VL that are in no shape, the same in 2B, 4B, 8B and 32B (their config.json on the hub)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import CheckpointError

TEXT = {
    "max_position_embeddings": 262144,
    "rms_norm_eps": 1e-6,
    "rope_theta": 5000000.0,
    "rope_scaling": {
        "rope_type": "default",
        "rope_theta": 5000000.0,
        "mrope_section": [24, 20, 20],
        "mrope_interleaved": True,
    },
}
HEAD, VISION_HEADS = 128, 16
DEEPSTACK = {24: [5, 11, 17], 27: [8, 16, 24]}  # depth of the vision tower -> layers fed into the language model


def sizes_from_shapes(
    side: Callable[..., int], count: Callable[[str], int], path: Path
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Derive `text_config` and `vision_config`.

    Args:
        side: (name, dimensions, which) -> the size of one of a tensor's dimensions.
        count: a name with {} for a layer's number -> the number of layers.

    Raises:
        CheckpointError: not a published size.
    """
    width, head = side("embed_tokens.weight", 2, 1), side("layers.0.self_attn.q_norm.weight", 1)
    vision, depth = side("visual.blocks.0.norm1.weight", 1), count("visual.blocks.{}.norm1.weight")
    merged = count("visual.deepstack_merger_list.{}.norm.weight")
    if head != HEAD or vision % VISION_HEADS or len(DEEPSTACK.get(depth, [])) != merged:
        raise CheckpointError(
            f"{str(path)!r} is not a Qwen3-VL of a published size (heads of {head}, a vision tower of {depth} layers "
            f"{vision} wide); put its config.json next to it."
        )
    text = TEXT | {
        "vocab_size": side("embed_tokens.weight"),
        "hidden_size": width,
        "head_dim": head,
        "intermediate_size": side("layers.0.mlp.gate_proj.weight"),
        "num_hidden_layers": count("layers.{}.input_layernorm.weight"),
        "num_attention_heads": side("layers.0.self_attn.q_proj.weight") // head,
        "num_key_value_heads": side("layers.0.self_attn.k_proj.weight") // head,
    }
    tower = {
        "depth": depth,
        "hidden_size": vision,
        "intermediate_size": side("visual.blocks.0.mlp.linear_fc1.weight"),
        "num_heads": VISION_HEADS,
        "num_position_embeddings": side("visual.pos_embed.weight"),
        "out_hidden_size": width,
        "deepstack_visual_indexes": DEEPSTACK[depth],
    }
    return text, tower
