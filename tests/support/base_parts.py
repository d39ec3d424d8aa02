"""Base models to begin a new one with, made of the bundled model's parts."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch


def save_base_parts(bundled: Path, folder: Path) -> Path:
    """MLLM and VAE as they are, and the DiT with a velocity's outputs: its offsets, without the gains."""
    from diffusers import WanTransformer3DModel

    for part in ("mllm", "vae"):
        shutil.copytree(bundled / part, folder / part)
    dit = WanTransformer3DModel.from_pretrained(bundled / "transformer", dtype=torch.bfloat16)
    channels = dit.config.in_channels
    weight, bias = (
        value.unflatten(0, (-1, 2, channels))[:, 1].flatten(0, 1)  # [patch x (gains, offsets), ...]
        for value in (dit.proj_out.weight.detach(), dit.proj_out.bias.detach())
    )
    dit.proj_out = torch.nn.Linear(weight.shape[1], len(weight), dtype=weight.dtype)
    dit.proj_out.load_state_dict({"weight": weight, "bias": bias})
    dit.register_to_config(out_channels=channels)
    dit.save_pretrained(folder / "transformer")
    return folder
