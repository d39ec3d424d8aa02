"""Wan DITs and VAEs by their configs: small ones, and the published sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from instructx_core.weights.native_keys import EMBEDDINGS
from instructx_core.weights.wan_keys import dit_to_diffusers, split_embeddings

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan, WanTransformer3DModel

DIT = {"num_attention_heads": 1, "attention_head_dim": 128, "ffn_dim": 64, "num_layers": 2, "text_dim": 4096}


DITS = {
    "text": DIT,
    "no cross-attention norm": {**DIT, "cross_attn_norm": False},
    "wan2.2 5b channels": {**DIT, "in_channels": 48, "out_channels": 48, "num_layers": 1},
    "image": {**DIT, "in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 128},
}


FIRST_LAST = {**DITS["image"], "pos_embed_seq_len": 514}


# Sizes that the published models have; built without memory, for their names and shapes.
PUBLISHED = {
    "wan2.1 1.3b": {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30},
    "wan2.1 14b image": {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120},
    "wan2.2 5b": {"num_attention_heads": 24, "ffn_dim": 14336, "num_layers": 30, "in_channels": 48, "out_channels": 48},
}


WAN21 = {"base_dim": 8, "z_dim": 16}


WAN22 = {
    "base_dim": 8,
    "decoder_base_dim": 16,
    "z_dim": 48,
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
    "latents_mean": [0.0] * 48,
    "latents_std": [1.0] * 48,
}


def build_dit(config: dict[str, Any], device: str = "cpu") -> WanTransformer3DModel:
    from diffusers import WanTransformer3DModel

    return _build(WanTransformer3DModel, config, device)


def build_vae(config: dict[str, Any], device: str = "cpu") -> AutoencoderKLWan:
    from diffusers import AutoencoderKLWan

    return _build(AutoencoderKLWan, config, device)


def _build(kind: type, config: dict[str, Any], device: str) -> Any:
    torch.manual_seed(0)
    with torch.device(device):
        return kind(**config).eval()


def dit_from_native(state: Mapping[str, object]) -> tuple[dict[str, object], dict[str, object]]:
    """The inverse of `dit_to_native`: the DiT under diffusers' names, and the embeddings under this repo's."""
    dit, beside = split_embeddings(state)
    own = {native: name for name, native in EMBEDDINGS.items()}
    return dit_to_diffusers(dit), {own[name]: value for name, value in beside.items()}
