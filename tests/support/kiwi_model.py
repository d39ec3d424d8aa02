"""A tiny Kiwi-Edit of random weights in its published layout, in the sizes that ComfyUI's loader fixes.

The recorded fixture's DiT has heads of 24, which ComfyUI's Wan takes for none: it finds the number of heads by dividing
the width by 128.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from instructx_core.config import (
    ConnectorConfig,
    ContextEntry,
    DenoiserConfig,
    GuidanceConfig,
    Margin,
    ModelConfig,
    ReferenceInjection,
    SamplingConfig,
    SourceInjection,
)
from instructx_core.connectors import make_connector
from instructx_core.convert import convert
from instructx_core.denoiser import Denoiser
from instructx_core.families.components import Components, adapter_state
from instructx_core.families.kiwi.folder import IMAGE_MAX_PIXELS, SIGMA_MIN
from instructx_core.families.kiwi.keys import ADAPTER_NAMES, MLLM, REFERENCE, SOURCE
from instructx_core.families.kiwi.prompt import KiwiGuidance
from instructx_core.latents import LatentCodec
from instructx_core.weights.files import read_safetensors, write_safetensors
from instructx_core.weights.wan_keys import vae_to_original
from support import comfyui, tiny

CHANNELS = 48
LIMITS = {"max_frames": 16, "max_pixels_per_frame": 262144, "max_object_token": 16}
WEIGHTS = "diffusion_pytorch_model.safetensors"
CONFIG = ModelConfig(
    name="Kiwi-Edit",
    guidance=GuidanceConfig(
        image_queries=3,
        video_queries=5,
        reference_queries=4,
        video_frames=16,
        max_pixels=IMAGE_MAX_PIXELS,
        video_max_pixels=LIMITS["max_pixels_per_frame"],
        reference_max_pixels=28 * 28 * LIMITS["max_object_token"],
        dialect="kiwi",
        lora_rank=0,
        lora_alpha=0,
    ),
    connector=ConnectorConfig(
        input_dim=tiny.HIDDEN,
        hidden_dim=28,
        output_dim=comfyui.WIDTH,
        entry=ContextEntry.WIDTH,
        tanh_gelu=True,
        reads_references=True,
    ),
    denoiser=DenoiserConfig(
        source=SourceInjection.EMBEDDING,
        source_fades=True,
        reference=ReferenceInjection.EMBEDDING,
        reference_margin=Margin.WHITE,
    ),
    sampling=SamplingConfig(sigma_min=SIGMA_MIN),
)


def references_first(config: ModelConfig = CONFIG) -> ModelConfig:
    return replace(config, denoiser=replace(config.denoiser, references_first=True))


def components(config: ModelConfig = CONFIG) -> Components:
    """The whole model; its VAE has Wan 2.2's form, strides and channels."""
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    vae = AutoencoderKLWan(
        base_dim=8,
        decoder_base_dim=8,
        z_dim=CHANNELS,
        num_res_blocks=1,
        dim_mult=[1, 1, 2, 2],
        temperal_downsample=[False, True, True],
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
        scale_factor_temporal=4,
        latents_mean=torch.linspace(-0.5, 0.5, CHANNELS).tolist(),
        latents_std=torch.linspace(0.5, 1.5, CHANNELS).tolist(),
    )
    guidance = KiwiGuidance(tiny.mllm(), tiny.tokenizer(), config.guidance)
    connector = make_connector(config.connector)
    denoiser = Denoiser(comfyui.transformer(CHANNELS), config.denoiser, config.connector.entry)
    tiny.shake(connector, 0.1)
    tiny.shake(denoiser.source_embedding, 0.3)
    tiny.shake(denoiser.reference_embedding, 0.3)
    whole = Components(config, guidance, connector, denoiser, LatentCodec(vae))
    for module in (guidance, connector, denoiser, whole.codec):
        module.eval().requires_grad_(False)
    return whole


def published_adapter(component: str, state: Mapping[str, object]) -> dict[str, object]:
    """Of a whole `instructx.safetensors`, the part that is `component`'s, under the authors' names."""
    table = {own: published for published, own in ADAPTER_NAMES[component].items()}
    return {table[name]: value for name, value in state.items() if name in table}


def publish(model: Components, folder: Path) -> None:
    """Write a model as Kiwi-Edit's authors publish theirs."""
    adapter = adapter_state(model.guidance, model.connector, model.denoiser)
    order = {"ref_pad_first": model.config.denoiser.references_first}
    for part, config in ((MLLM, LIMITS), (SOURCE, {}), (REFERENCE, order)):
        (folder / part).mkdir(parents=True)
        write_safetensors(folder / part / WEIGHTS, published_adapter(part, adapter))
        (folder / part / "config.json").write_text(json.dumps(config), encoding="utf-8")
    processor = folder / "processor"
    model.guidance.tokenizer.save_pretrained(processor)
    model.guidance.mllm.save_pretrained(folder / MLLM / "qwen")
    for path in (folder / MLLM / "qwen").glob("*.safetensors"):
        path.rename(folder / MLLM / path.name)
    (folder / MLLM / "qwen" / "config.json").rename(processor / "qwen_config.json")
    shutil.rmtree(folder / MLLM / "qwen")
    model.denoiser.transformer.save_pretrained(folder / "transformer")
    vae, written = model.codec.vae, folder / "vae"
    vae.save_pretrained(written)
    state, _ = read_safetensors(written / WEIGHTS)
    write_safetensors(written / WEIGHTS, vae_to_original(state))
    scale = {name: list(getattr(vae.config, name)) for name in ("latents_mean", "latents_std")}
    (written / "config.json").write_text(json.dumps(scale), encoding="utf-8")


def save_layouts(root: Path) -> None:
    """The model as published, `first` with its references before the frames, and `converted` to this repo's layout."""
    publish(components(), root / "published")
    publish(components(references_first()), root / "first")
    convert(root / "published", root / "converted")
