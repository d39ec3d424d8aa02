"""The numbers of a model that decide what it needs in memory, read from its modules: no arithmetic about runs here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import Qwen2_5_VLForConditionalGeneration

    from ..checkpoints.bundle import Components
    from ..config import ModelConfig


@dataclass(frozen=True)
class Weights:
    """Bytes of a part's weights, in the form in which they lie in memory."""

    total: int
    block: int = 0  # of the largest block of those that run one after the other
    outside: int = 0  # what belongs to none of these blocks
    layer: int = 0  # of the largest single layer


@dataclass(frozen=True)
class MLLMSizes:
    """A Qwen2.5-VL with its LoRA."""

    weights: Weights
    hidden: int
    intermediate: int
    vision_hidden: int
    vision_intermediate: int
    item: int = 2  # bytes of one number of an activation


@dataclass(frozen=True)
class DiTSizes:
    """A Wan DiT."""

    weights: Weights
    layers: int
    width: int
    ffn: int
    head: int
    patch: tuple[int, int, int]
    item: int = 2


@dataclass(frozen=True)
class VAESizes:
    """A Wan VAE; widths from the pixels' end to the latents'."""

    weights: Weights
    channels: int
    encoder: tuple[int, ...]  # channels of each stage
    decoder: tuple[int, ...]
    halves_time: tuple[bool, ...]  # between one stage and the next
    res_blocks: int
    residual: bool  # Wan 2.2's kind, whose stages have a shortcut of their own
    patch: int
    stride: int
    temporal_stride: int
    item: int = 2


@dataclass(frozen=True)
class ModelSizes:
    """A whole model."""

    config: ModelConfig
    mllm: MLLMSizes
    dit: DiTSizes
    vae: VAESizes
    added: int  # bytes that stay on the device always: queries, connector, embeddings


def sizes_of(components: Components) -> ModelSizes:
    """The sizes of a model that is loaded, on whatever device."""
    denoiser, guidance = components.denoiser, components.guidance
    embeddings = [part for part in (denoiser.source_embedding, denoiser.reference_embedding) if part is not None]
    added = sum(map(_bytes, (guidance.queries, components.connector, *embeddings)))
    return ModelSizes(
        components.config,
        mllm_sizes(guidance.mllm),
        dit_sizes(denoiser.transformer),
        vae_sizes(components.codec.vae),
        added,
    )


def mllm_sizes(mllm: Qwen2_5_VLForConditionalGeneration) -> MLLMSizes:
    """The sizes of an MLLM."""
    text, vision = mllm.config.text_config, mllm.config.vision_config
    return MLLMSizes(
        _weights(mllm),
        text.hidden_size,
        text.intermediate_size,
        vision.hidden_size,
        vision.intermediate_size,
        mllm.get_input_embeddings().weight.itemsize,
    )


def dit_sizes(transformer: WanTransformer3DModel) -> DiTSizes:
    """The sizes of a DiT."""
    config = transformer.config
    return DiTSizes(
        _weights(transformer, transformer.blocks),
        config.num_layers,
        config.num_attention_heads * config.attention_head_dim,
        config.ffn_dim,
        config.attention_head_dim,
        tuple(config.patch_size),
        transformer.patch_embedding.weight.itemsize,
    )


def vae_sizes(vae: AutoencoderKLWan) -> VAESizes:
    """The sizes of a VAE."""
    config = vae.config
    widths = [config.base_dim * times for times in config.dim_mult]
    return VAESizes(
        _weights(vae),
        config.z_dim,
        tuple(widths),
        tuple((config.decoder_base_dim or config.base_dim) * times for times in config.dim_mult),
        tuple(config.temperal_downsample),
        config.num_res_blocks,
        config.is_residual,
        config.patch_size or 1,
        config.scale_factor_spatial,
        config.scale_factor_temporal,
        vae.dtype.itemsize,
    )


def _weights(module: nn.Module, blocks: Iterable[nn.Module] = ()) -> Weights:
    of_blocks, total = [_bytes(block) for block in blocks], _bytes(module)
    layers = (sum(own.nbytes for own in layer.parameters(recurse=False)) for layer in module.modules())
    return Weights(total, max(of_blocks, default=0), total - sum(of_blocks), max(layers, default=0))


def _bytes(module: nn.Module) -> int:
    """Bytes of all weights and buffers, each counted once."""
    tensors: Iterable[torch.Tensor] = (*module.parameters(), *module.buffers())
    return sum(tensor.nbytes for tensor in tensors)
