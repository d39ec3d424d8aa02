"""A whole InsightEdit with random weights, small enough to be built in a moment: every class is the real one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from instructx_core.config import (
    ConnectorConfig,
    ConnectorKind,
    DenoiserConfig,
    GuidanceConfig,
    GuidanceMode,
    ModelConfig,
    Network,
    Prediction,
    SamplingConfig,
    SourceInjection,
    TwoStreamConfig,
)
from instructx_core.connectors import make_connector
from instructx_core.families.components import Components, guidance_class
from instructx_core.families.networks import network_kind

from .tiny import shake, tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import LlavaForConditionalGeneration

HIDDEN, VISION, TEXT, FIRST = 20, 16, 24, 8  # widths of LLaMA, CLIP, text and the UNet's first layer
CONFIG = ModelConfig(
    name="random-insightedit",
    default_size=(48, 48),
    default_frames=1,
    guidance=GuidanceConfig(
        image_queries=3, video_queries=0, video_frames=1, dialect="insightedit", lora_rank=2, lora_alpha=4
    ),
    connector=ConnectorConfig(
        kind=ConnectorKind.TWO_STREAM,
        input_dim=HIDDEN,
        hidden_dim=TEXT,
        output_dim=TEXT,
        layers=2,
        head_dim=12,
        tokens=5,
        two_stream=TwoStreamConfig(
            vision_dim=VISION, bim_heads=2, bim_hidden=12, addend_dim=FIRST, image_dim=6, image_tokens=4
        ),
    ),
    denoiser=DenoiserConfig(SourceInjection.CHANNELS, Prediction.NOISE, network=Network.UNET, image_tokens=4),
    sampling=SamplingConfig(
        steps=2, shift=1.0, guidance_scale=7.5, guidance_mode=GuidanceMode.V2V_CHAIN, source_scale=1.5
    ),
)


# the same with a UNet that ComfyUI can build: its norms have 32 groups
NATIVE = replace(
    CONFIG,
    name="random-insightedit-native",
    connector=replace(CONFIG.connector, two_stream=replace(CONFIG.connector.two_stream, addend_dim=32)),
)


def llava(seed: int = 0) -> LlavaForConditionalGeneration:
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    torch.manual_seed(seed)
    words = len(tokenizer())
    text = {"model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": 28, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": words, "max_position_embeddings": 512,
            "tie_word_embeddings": False, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}  # fmt: skip
    sight = {"model_type": "clip_vision_model", "hidden_size": VISION, "intermediate_size": 20, "num_hidden_layers": 3,
             "num_attention_heads": 2, "image_size": 28, "patch_size": 7, "projection_dim": 6}  # fmt: skip
    config = LlavaConfig(text_config=text, vision_config=sight, image_token_index=words, tie_word_embeddings=False)
    model = LlavaForConditionalGeneration(config)
    shake(model, 0.2)
    return model.eval()


def unet(seed: int = 0, first: int = FIRST) -> UNet2DConditionModel:
    from diffusers import UNet2DConditionModel

    torch.manual_seed(seed)
    model = UNet2DConditionModel(
        in_channels=8,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(first, 2 * first) if first % 32 == 0 else (first, first),
        layers_per_block=1,
        norm_num_groups=32 if first % 32 == 0 else 4,
        cross_attention_dim=TEXT,
        attention_head_dim=2,
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2 if first == FIRST else 0.05)
    return model.eval()


def vae(seed: int = 0) -> AutoencoderKL:
    from diffusers import AutoencoderKL

    torch.manual_seed(seed)
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 4, 4),
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=4,
    )
    shake(model, 0.1)
    return model.eval()


def write_old_vae(folder: Path) -> Path:
    """Write the VAE with the names of its attention that Stable Diffusion 1.5's file has."""
    from safetensors.torch import load_file, save_file

    vae().save_pretrained(folder)
    file = folder / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    for current, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        state = {name.replace(f".{current}.", f".{old}."): value for name, value in state.items()}
    save_file(state, file, {"format": "pt"})
    return folder


def components(config: ModelConfig = CONFIG, seed: int = 0) -> Components:
    """A model in which every part has an effect: what a fresh one starts at zero is given values."""
    guidance = guidance_class(config)(llava(seed), tokenizer(), config.guidance)
    connector = make_connector(config.connector)
    kind = network_kind(config)
    denoiser = kind.denoiser(unet(seed, config.connector.two_stream.addend_dim), config)
    shake(guidance.queries, 0.5)
    shake(guidance.rows, 0.5)
    shake(connector, 0.1)
    torch.nn.init.normal_(connector.unasked)
    shake(torch.nn.ModuleList(denoiser.gained().values()), 0.1)
    whole = Components(config, guidance, connector, denoiser, kind.codec(vae(seed)))
    for module in (guidance, connector, denoiser, whole.codec):
        module.eval().requires_grad_(False)
    return whole


def save_start(root: Path) -> dict[str, Path]:
    """Write a model and the CLIP that it is aligned with; their folders."""
    from transformers import CLIPConfig, CLIPModel

    from instructx_core.families.instructx.folder import save_checkpoint

    save_checkpoint(components(), root / "model")
    sight = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2,
             "image_size": 28, "patch_size": 7}  # fmt: skip
    text = {"hidden_size": TEXT, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
            "vocab_size": 400, "max_position_embeddings": 5}  # fmt: skip
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=sight, projection_dim=6)).save_pretrained(root / "clip")
    tokenizer().save_pretrained(root / "clip")
    return {"model": root / "model", "clip": root / "clip"}


def without_iaa(config: ModelConfig = CONFIG) -> ModelConfig:
    """As SmartEdit."""
    connector = replace(config.connector, two_stream=replace(config.connector.two_stream, iaa=False))
    return replace(config, connector=connector, denoiser=replace(config.denoiser, image_tokens=0))
