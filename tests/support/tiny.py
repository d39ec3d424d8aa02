"""Whole models with random weights, small enough to be built and run in a moment: every class is the real one."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from instructx_core.config import (
    ConnectorConfig,
    ContextEntry,
    DenoiserConfig,
    GuidanceConfig,
    ModelConfig,
    SamplingConfig,
    SourceInjection,
)
from instructx_core.connectors import make_connector
from instructx_core.denoiser import Denoiser
from instructx_core.families.components import Components, guidance_class
from instructx_core.latents import LatentCodec
from instructx_core.memory.choice import Memory
from instructx_core.speed.options import cache_settings
from recipes.tiny.language import build_mllm
from recipes.tiny.tokenizer import train_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

CHANNELS = 4
HIDDEN = 32  # of the MLLM
WIDTH = 24  # of the DiT
TEXT_DIM = 20
MLLM_SIZES = {
    "text": {
        "hidden_size": HIDDEN,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 4096,
        "rope_theta": 10000.0,
        # under this name transformers 4.57 and 5.x both take it
        "rope_scaling": {"type": "mrope", "rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
    },
    "vision": {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "window_size": 56,
        "fullatt_block_indexes": [1],
    },
}
DIT_SOURCES = tuple(source for source in SourceInjection if source is not SourceInjection.CHANNELS)  # that is a UNet's
WAN_STRIDES = {"dim_mult": [1, 1, 2, 2], "temperal_downsample": [False, True, True]}  # 8 and 4, as Wan's own
OTHER_STRIDES = {
    "dim_mult": [1, 2, 2],
    "temperal_downsample": [True, False],
    "scale_factor_spatial": 4,
    "scale_factor_temporal": 2,
}
CONFIG = ModelConfig(
    name="random",
    default_size=(48, 48),
    default_frames=5,
    guidance=GuidanceConfig(
        image_queries=3, video_queries=5, video_frames=4, max_pixels=84 * 84, lora_rank=2, lora_alpha=4
    ),
    connector=ConnectorConfig(input_dim=HIDDEN, hidden_dim=28, output_dim=TEXT_DIM),
    sampling=SamplingConfig(steps=2, shift=3.0),
)


def with_source(source: SourceInjection, config: ModelConfig = CONFIG) -> ModelConfig:
    return replace(config, denoiser=DenoiserConfig(source))


def with_entry(entry: ContextEntry, config: ModelConfig = CONFIG) -> ModelConfig:
    width = WIDTH if entry is ContextEntry.WIDTH else TEXT_DIM
    return replace(config, connector=replace(config.connector, entry=entry, output_dim=width))


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(["make the red circle blue and add a green star in the top left"] * 3, 300)


def mllm(seed: int = 0) -> Qwen2_5_VLForConditionalGeneration:
    torch.manual_seed(seed)
    model = build_mllm(MLLM_SIZES, tokenizer())
    shake(model, 0.2)
    return model.eval()


def transformer(seed: int = 0, patch: tuple[int, int, int] = (1, 2, 2)) -> WanTransformer3DModel:
    from diffusers import WanTransformer3DModel

    torch.manual_seed(seed)
    model = WanTransformer3DModel(
        patch_size=patch,
        num_attention_heads=2,
        attention_head_dim=WIDTH // 2,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        text_dim=TEXT_DIM,
        freq_dim=16,
        ffn_dim=40,
        num_layers=2,
    )
    return model.eval()


def vae(seed: int = 0, **sizes: object) -> AutoencoderKLWan:
    from diffusers import AutoencoderKLWan

    torch.manual_seed(seed)
    model = AutoencoderKLWan(
        base_dim=8,
        z_dim=CHANNELS,
        num_res_blocks=1,
        latents_mean=[0.1, -0.2, 0.3, 0.05],
        latents_std=[0.8, 1.5, 0.6, 1.1],
        **(sizes or WAN_STRIDES),
    )
    return model.eval()


def components(config: ModelConfig = CONFIG, seed: int = 0, **vae_sizes: object) -> Components:
    """A model in which every part has an effect: what a fresh one starts at zero is given values."""
    guidance = guidance_class(config)(mllm(seed), tokenizer(), config.guidance)
    connector = make_connector(config.connector)
    denoiser = Denoiser(transformer(seed), config.denoiser, config.connector.entry, config.source_prediction)
    shake(connector, 0.1)
    if denoiser.source_embedding is not None:
        shake(denoiser.source_embedding, 0.3)
    whole = Components(config, guidance, connector, denoiser, LatentCodec(vae(seed, **vae_sizes)))
    for module in (guidance, connector, denoiser, whole.codec):
        module.eval().requires_grad_(False)
    return whole


@torch.no_grad()
def shake(module: torch.nn.Module, by: float) -> None:
    """Add noise to every parameter, biases and LoRA's zeros included."""
    for parameter in module.parameters():
        parameter.add_(torch.randn_like(parameter) * by)


def step_cache(name: str) -> Any:
    """The settings of a step cache; where it wants ratios of a model, ones that promise little change."""
    if name == "mag":
        from instructx_core.speed.mag_cache import MagCache

        return MagCache([1.0, 1.02, 0.99, 1.01, 1.0, 0.98])
    return cache_settings(name, Path())


def clip(frames: int = 1, height: int = 48, width: int = 48, seed: int = 0) -> torch.Tensor:
    """Smooth random frames [T, H, W, 3] in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, max(2, frames), 3, 3, generator=generator)
    size = (max(2, frames), height, width)
    fine = torch.nn.functional.interpolate(coarse, size, mode="trilinear", align_corners=True)
    return fine[0].permute(1, 2, 3, 0)[:frames].contiguous()


def ways_here(ways: Iterable[Memory]) -> list[Any]:
    """Ways of keeping weights as a test's parameters: diffusers 0.39 offloads groups of layers only beside a GPU."""
    from importlib.metadata import version

    from packaging.version import Version

    able = torch.accelerator.current_accelerator() is not None or Version(version("diffusers")) >= Version("0.42")
    lacking = pytest.mark.skipif(not able, reason="this diffusers offloads groups of layers beside a GPU only")
    return [pytest.param(way, marks=lacking if way in (Memory.GROUP, Memory.SEQUENTIAL) else ()) for way in ways]
