"""A model folder's parts without a single weight: the real classes on PyTorch's meta device, built from the configs."""

from __future__ import annotations

from pathlib import Path

import torch

from ..checkpoints.bundle import DIALECTS, Components
from ..checkpoints.dit import checked_dit
from ..checkpoints.forms import Family, find_form
from ..checkpoints.kiwi import MLLM, TRANSFORMER, VAE, is_kiwi, load_kiwi_mllm_config
from ..checkpoints.loading import read_model_config
from ..checkpoints.mllm import load_mllm_config
from ..checkpoints.pretrained import check_part
from ..checkpoints.vae import checked_vae
from ..connectors import Connector
from ..denoiser import Denoiser
from ..latents import LatentCodec


def outline(folder: Path, dtype: torch.dtype) -> Components:
    """The components of a model folder of either layout, on the meta device; they cannot run.

    Args:
        dtype: that the weights would be loaded in.

    Raises:
        CheckpointError: no such folder, another kind of folder, or a missing or damaged config.
    """
    from transformers import Qwen2_5_VLForConditionalGeneration

    config, mllm = read_model_config(folder), MLLM if is_kiwi(folder) else "mllm"
    for part in (mllm, TRANSFORMER, VAE):
        check_part(folder / part)
    qwen = load_kiwi_mllm_config(folder) if is_kiwi(folder) else load_mllm_config(folder / mllm)
    transformer = checked_dit(find_form(folder / TRANSFORMER, Family.DIT))
    vae = checked_vae(find_form(folder / VAE, Family.VAE))
    with torch.device("meta"):
        guidance = DIALECTS[config.guidance.dialect](Qwen2_5_VLForConditionalGeneration(qwen), None, config.guidance)
        codec = LatentCodec(vae)
        connector = Connector(config.connector)
        denoiser = Denoiser(transformer, config.denoiser, config.connector.entry)
    for module in (guidance, connector, denoiser, codec):
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.data = tensor.data.to(dtype)
    return Components(config, guidance, connector, denoiser, codec)
