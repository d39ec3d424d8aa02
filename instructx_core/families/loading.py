"""Reading a whole model that was opened into memory."""

from __future__ import annotations

import torch

from ..weights.detect import Part, bare_mllm
from ..weights.networks import load_autoencoder, load_network
from ..weights.readers import load_reader
from .components import Components, combine, with_queries
from .opened import Opened
from .part_loaders import added_tensors, merge


def load_model(opened: Opened, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Components:
    """Read a model, ready to edit.

    Args:
        dtype: of the weights.

    Raises:
        CheckpointError: a part that is missing, truncated or damaged, or one that does not fit the others.
    """
    opened.check()
    adapter = added_tensors(opened)
    mllm, tokenizer = load_reader(opened.form(Part.MLLM), opened.match.folder, dtype)
    merge(opened, Part.MLLM, {bare_mllm(name): value for name, value in mllm.named_parameters()})
    transformer = load_network(opened.form(Part.DIT), dtype, opened.sizes)
    merge(opened, Part.DIT, dict(transformer.named_parameters()))
    guidance = with_queries(mllm, tokenizer, opened.config, dtype)
    vae = load_autoencoder(opened.form(Part.VAE), dtype)
    return combine(opened.config, opened.match.named, adapter, guidance, transformer, vae, device)
