"""Load a complete opened model into memory."""

from __future__ import annotations

import torch

from ..weights.networks import load_autoencoder, load_network
from ..weights.parts import Part
from ..weights.readers import load_reader
from .components import Components, combine, with_queries
from .networks import make_denoiser
from .opened import Opened
from .part_loaders import added_tensors, lora_pairs, put_loras


def load_model(
    opened: Opened,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    packed: bool = False,
    dit_changes: bool = False,
) -> Components:
    """Load a model, ready to edit.

    Args:
        dtype: of the weights.
        packed: keep quantised weights of the DiT and the instruction reader as stored, and leave the model's own LoRA
            unmerged where weights are packed or mapped from their files; for models that will not be changed.
        dit_changes: with `packed`: the DiT will be changed all the same, so its weights are unpacked and merged.

    Raises:
        CheckpointError: a part that is missing, truncated or damaged, or does not fit the others.
    """
    opened.check()
    adapter = added_tensors(opened)
    loras = {kind: lora_pairs(opened, kind) for kind in (Part.MLLM, Part.DIT)}  # checked before anything large is read
    reader_packed = packed and not opened.config.guidance.lora_rank  # peft needs plain layers
    mllm, tokenizer = load_reader(opened.form(Part.MLLM), opened.match.folder, dtype, packed=reader_packed)
    put_loras(opened, Part.MLLM, mllm, loras[Part.MLLM], packed)
    networks = []
    for part in (Part.DIT, Part.DIT_2):
        if part in opened.parts:
            networks.append(load_network(opened.form(part), dtype, opened.sizes, packed and not dit_changes))
            put_loras(opened, part, networks[-1], loras[Part.DIT], packed and not dit_changes)
    guidance = with_queries(mllm, tokenizer, opened.config, dtype)
    vae = load_autoencoder(opened.form(Part.VAE), dtype)
    denoiser = make_denoiser(opened.config, *networks)
    return combine(opened.config, opened.match.named, adapter, guidance, denoiser, vae, device)
