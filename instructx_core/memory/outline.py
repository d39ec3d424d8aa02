"""A model folder's parts without a single weight: the real classes on PyTorch's meta device, built from the configs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..checkpoints.bundle import DIALECTS, Components, check_part, load_or_explain
from ..checkpoints.kiwi import MLLM, TRANSFORMER, VAE, has_original_names, is_kiwi, load_mllm_config, vae_config
from ..checkpoints.loading import read_model_config
from ..connectors import Connector
from ..denoiser import Denoiser
from ..latents import LatentCodec

if TYPE_CHECKING:
    from transformers import Qwen2_5_VLConfig


def outline(folder: Path, dtype: torch.dtype) -> Components:
    """The components of a model folder of either layout, on the meta device; they cannot run.

    Args:
        dtype: that the weights would be loaded in.

    Raises:
        CheckpointError: no such folder, another kind of folder, or a missing or damaged config.
    """
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import Qwen2_5_VLForConditionalGeneration

    config, mllm = read_model_config(folder), MLLM if is_kiwi(folder) else "mllm"
    for part in (mllm, TRANSFORMER, VAE):
        check_part(folder / part)
    qwen = _mllm_config(folder)
    dit = load_or_explain(folder, lambda: WanTransformer3DModel.load_config(folder / TRANSFORMER))
    vae = _vae_config(folder)
    with torch.device("meta"):
        guidance = DIALECTS[config.guidance.dialect](Qwen2_5_VLForConditionalGeneration(qwen), None, config.guidance)
        transformer = WanTransformer3DModel.from_config(dit)
        codec = LatentCodec(AutoencoderKLWan(**vae))
        connector = Connector(config.connector)
        denoiser = Denoiser(transformer, config.denoiser, config.connector.entry)
    for module in (guidance, connector, denoiser, codec):
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.data = tensor.data.to(dtype)
    return Components(config, guidance, connector, denoiser, codec)


def _mllm_config(folder: Path) -> Qwen2_5_VLConfig:
    from transformers import Qwen2_5_VLConfig

    if is_kiwi(folder):
        return load_mllm_config(folder)
    return load_or_explain(folder / "mllm", lambda: Qwen2_5_VLConfig.from_pretrained(folder / "mllm"))


def _vae_config(folder: Path) -> dict[str, Any]:
    """The arguments of `AutoencoderKLWan`."""
    from diffusers import AutoencoderKLWan

    if is_kiwi(folder) and has_original_names(folder / VAE):
        return vae_config(folder / VAE)
    plain = load_or_explain(folder / VAE, lambda: AutoencoderKLWan.load_config(folder / VAE))
    return {name: value for name, value in plain.items() if not name.startswith("_")}
