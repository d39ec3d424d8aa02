"""Combine a DiT and the patch embeddings added to it into one state dict for ComfyUI's native loader.

The DiT has the original Wan names. The embeddings, which no Wan loader knows, keep the names of Kiwi-Edit's training
checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from .wan_keys import dit_to_original

T = TypeVar("T")

# names in `instructx.safetensors` -> next to a native DiT
EMBEDDINGS = {
    f"denoiser.{own}.{leaf}": f"{native}.patch_embedding.{leaf}"
    for own, native in (("source_embedding", "vae_condition"), ("reference_embedding", "ref_vae_condition"))
    for leaf in ("weight", "bias")
}


def dit_to_native(transformer: Mapping[str, T], adapter: Mapping[str, T]) -> dict[str, T]:
    """A DiT for ComfyUI's native loader, with the patch embeddings added to it.

    Args:
        transformer: under diffusers' names, whole or a shard.
        adapter: an `instructx.safetensors` to take the embeddings from; {} leaves them out.

    Raises CheckpointError naming tensors that no Wan DiT has.
    """
    embeddings = {EMBEDDINGS[name]: value for name, value in adapter.items() if name in EMBEDDINGS}
    return dit_to_original(transformer) | embeddings
