"""A DiT and the patch embeddings that it gained in one state dict, as ComfyUI's native loader takes it.

The DiT has the original Wan names. The embeddings, which no Wan loader knows, keep names that Kiwi-Edit's training
checkpoints give them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from ..errors import CheckpointError
from ..words import listed
from .wan_keys import dit_to_diffusers, dit_to_original, split_embeddings

T = TypeVar("T")

# names in `instructx.safetensors` -> beside a native DiT
EMBEDDINGS = {
    f"denoiser.{own}.{leaf}": f"{native}.patch_embedding.{leaf}"
    for own, native in (("source_embedding", "vae_condition"), ("reference_embedding", "ref_vae_condition"))
    for leaf in ("weight", "bias")
}


def dit_to_native(transformer: Mapping[str, T], adapter: Mapping[str, T]) -> dict[str, T]:
    """A DiT for ComfyUI's native loader, with the patch embeddings that it gained.

    Args:
        transformer: under diffusers' names, whole or a shard.
        adapter: an `instructx.safetensors`, of which the embeddings are taken; {} leaves them out.

    Raises CheckpointError naming tensors that no Wan DiT has.
    """
    embeddings = {EMBEDDINGS[name]: value for name, value in adapter.items() if name in EMBEDDINGS}
    return dit_to_original(transformer) | embeddings


def dit_from_native(state: Mapping[str, T]) -> tuple[dict[str, T], dict[str, T]]:
    """The inverse of `dit_to_native`: the DiT under diffusers' names, and the embeddings under this repo's.

    Raises CheckpointError naming tensors that are neither's.
    """
    dit, beside = split_embeddings(state)
    own = {native: name for name, native in EMBEDDINGS.items()}
    if unknown := sorted(beside.keys() - own.keys()):
        raise CheckpointError(f"{listed(unknown)} is no patch embedding of an editor that is known here; get it again.")
    return dit_to_diffusers(dit), {own[name]: value for name, value in beside.items()}
