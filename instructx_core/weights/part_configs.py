"""Ranges for the values in the configs of a DiT, a VAE and an MLLM that no weight determines.

A config comes with a download. A rotary table of length 1, a latent scale of 1e-38 or a window of -1 would abort an
edit half-way or silently spoil it; here it raises one sentence that names the file, field, value and range. Fields not
listed here are left to the libraries.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from ..diffusion import LATENT_SCALE
from ..errors import CheckpointError
from ..validation import FieldError, Length, Range, converted
from ..words import quoted_path

Width = Annotated[int, Range(1, 1 << 20)]
Depth = Annotated[int, Range(1, 1024)]
Epsilon = Annotated[float, Range(above=0, most=0.01)]
TokenId = Annotated[int, Range(0, 1 << 24)]
Base = Annotated[float, Range(1, 1e12)]  # of rotary frequencies
# patches of `guidance.vision`, as in every Qwen2.5-VL; those of a Qwen3-VL are 16 pixels
PATCH, MERGE, TEMPORAL = 14, 2, 2
QWEN3_PATCH = 16


@dataclass(frozen=True)
class DitNumbers:
    """Arguments of `WanTransformer3DModel`."""

    patch_size: tuple[Annotated[int, Range(1, 16)], Annotated[int, Range(1, 64)], Annotated[int, Range(1, 64)]]
    num_attention_heads: Annotated[int, Range(1, 1024)]
    attention_head_dim: Annotated[int, Range(2, 4096)]
    in_channels: Width
    out_channels: Width | None
    text_dim: Width
    freq_dim: Annotated[int, Range(2, 65536)]
    ffn_dim: Width
    num_layers: Depth
    cross_attn_norm: bool
    qk_norm: Literal["rms_norm_across_heads"] | None
    eps: Epsilon
    image_dim: Width | None
    added_kv_proj_dim: Width | None
    rope_max_seq_len: Annotated[int, Range(16, 65536)]
    pos_embed_seq_len: Width | None


@dataclass(frozen=True)
class LatentScale:
    """The normalisation of latents, one value per channel."""

    latents_mean: tuple[Annotated[float, Range(-1000, 1000)], ...]
    latents_std: tuple[Annotated[float, Range(0.001, 1000)], ...]


@dataclass(frozen=True)
class VaeNumbers(LatentScale):
    """Arguments of `AutoencoderKLWan`."""

    base_dim: Width
    decoder_base_dim: Width | None
    z_dim: Annotated[int, Range(1, 4096)]
    dim_mult: Annotated[tuple[Annotated[int, Range(1, 256)], ...], Length(1, 8)]
    num_res_blocks: Annotated[int, Range(1, 64)]
    temperal_downsample: tuple[bool, ...]
    is_residual: bool
    in_channels: Width
    out_channels: Width
    patch_size: Annotated[int, Range(1, 16)] | None
    scale_factor_temporal: Annotated[int, Range(1, 256)]
    scale_factor_spatial: Annotated[int, Range(1, 4096)]


@dataclass(frozen=True)
class LlamaNumbers:
    """`text_config` of a LLaVA."""

    vocab_size: Annotated[int, Range(1, 1 << 24)]
    hidden_size: Width
    intermediate_size: Width
    num_hidden_layers: Depth
    num_attention_heads: Annotated[int, Range(1, 4096)]
    num_key_value_heads: Annotated[int, Range(1, 4096)]
    rms_norm_eps: Epsilon
    max_position_embeddings: Annotated[int, Range(1, 1 << 30)]


@dataclass(frozen=True)
class TextNumbers(LlamaNumbers):
    """`text_config` of a Qwen2.5-VL or a Qwen3-VL."""

    pad_token_id: TokenId | None = None
    sliding_window: Annotated[int, Range(1, 1 << 30)] | None = None
    use_sliding_window: bool = False
    max_window_layers: Annotated[int, Range(0, 1 << 20)] = 0


@dataclass(frozen=True)
class HeadWidth:
    """The head size in a Qwen3-VL's `text_config`; its heads together need not be as wide as the hidden states."""

    head_dim: Annotated[int, Range(2, 4096)]


@dataclass(frozen=True)
class Rope:
    """The rotary position embedding of a text model."""

    rope_theta: Base
    mrope_section: tuple[Annotated[int, Range(0, 4096)], Annotated[int, Range(0, 4096)], Annotated[int, Range(0, 4096)]]


@dataclass(frozen=True)
class Tower:
    """Fields of `vision_config` that Qwen2.5-VL and Qwen3-VL share."""

    depth: Depth
    hidden_size: Width
    intermediate_size: Width
    num_heads: Annotated[int, Range(1, 4096)]
    in_channels: Annotated[int, Range(3, 3)]
    spatial_merge_size: Annotated[int, Range(MERGE, MERGE)]
    temporal_patch_size: Annotated[int, Range(TEMPORAL, TEMPORAL)]
    out_hidden_size: Width


@dataclass(frozen=True)
class VisionNumbers(Tower):
    """`vision_config` of a Qwen2.5-VL."""

    patch_size: Annotated[int, Range(PATCH, PATCH)]
    window_size: Annotated[int, Range(PATCH * MERGE, 1 << 16)]
    tokens_per_second: Annotated[float, Range(above=0, most=1000)]
    fullatt_block_indexes: tuple[Annotated[int, Range(0, 1023)], ...]


@dataclass(frozen=True)
class Qwen3VisionNumbers(Tower):
    """`vision_config` of a Qwen3-VL."""

    patch_size: Annotated[int, Range(QWEN3_PATCH, QWEN3_PATCH)]
    num_position_embeddings: Annotated[int, Range(1, 1 << 20)]
    deepstack_visual_indexes: Annotated[tuple[Annotated[int, Range(0, 1023)], ...], Length(1, 64)]


@dataclass(frozen=True)
class TokenIds:
    """The image and video tokens of a Qwen-VL."""

    image_token_id: TokenId
    video_token_id: TokenId


@dataclass(frozen=True)
class ClipNumbers:
    """`vision_config` of a LLaVA."""

    hidden_size: Width
    intermediate_size: Width
    num_hidden_layers: Depth
    num_attention_heads: Annotated[int, Range(1, 4096)]
    image_size: Annotated[int, Range(14, 4096)]
    patch_size: Annotated[int, Range(1, 256)]
    num_channels: Annotated[int, Range(3, 3)]


@dataclass(frozen=True)
class LlavaNumbers:
    """The rest of a LLaVA's config."""

    image_token_index: TokenId
    vision_feature_layer: Annotated[int, Range(-1025, 1024)]
    vision_feature_select_strategy: Literal["default"]


@dataclass(frozen=True)
class UnetNumbers:
    """Arguments of `UNet2DConditionModel`."""

    in_channels: Width
    out_channels: Width
    block_out_channels: Annotated[tuple[Width, ...], Length(1, 8)]
    cross_attention_dim: Width
    norm_num_groups: Annotated[int, Range(1, 1024)]


@dataclass(frozen=True)
class KlNumbers:
    """Arguments of `AutoencoderKL`."""

    in_channels: Annotated[int, Range(3, 3)]
    out_channels: Annotated[int, Range(3, 3)]
    latent_channels: Annotated[int, Range(1, 4096)]
    block_out_channels: Annotated[tuple[Width, ...], Length(1, 8)]
    layers_per_block: Annotated[int, Range(1, 64)]
    norm_num_groups: Annotated[int, Range(1, 1024)]
    # fixed: `unet_denoiser` removes exactly this scale from a source
    scaling_factor: Annotated[float, Range(LATENT_SCALE, LATENT_SCALE)]


T = TypeVar("T")


def check_dit_config(config: Mapping[str, Any], path: Path) -> None:
    """Raise CheckpointError, naming `path`, if arguments of a Wan DiT are out of range or contradict each other."""
    from diffusers import WanTransformer3DModel

    numbers = _numbers(DitNumbers, _defaults(WanTransformer3DModel) | dict(config), path)
    if numbers.attention_head_dim % 2:
        raise _wrong(path, f"attention_head_dim is {numbers.attention_head_dim}; give an even number")


def check_vae_config(config: Mapping[str, Any], path: Path) -> None:
    """Like `check_dit_config`, for a Wan VAE."""
    from diffusers import AutoencoderKLWan

    numbers = _numbers(VaeNumbers, _defaults(AutoencoderKLWan) | dict(config), path)
    check_scale(config, path, numbers.z_dim)
    levels, patch = len(numbers.dim_mult), numbers.patch_size or 1
    if len(numbers.temperal_downsample) != levels - 1:
        raise _wrong(path, f"temperal_downsample has {len(numbers.temperal_downsample)} entries; give {levels - 1}")
    made = {
        "scale_factor_spatial": patch * 2 ** (levels - 1),
        "scale_factor_temporal": 2 ** sum(numbers.temperal_downsample),
        "in_channels": 3 * patch**2,
        "out_channels": 3 * patch**2,
    }
    for name, value in made.items():
        if getattr(numbers, name) != value:
            raise _wrong(path, f"{name} is {getattr(numbers, name)}; give {value}, which follows from its layers")


def check_scale(config: Mapping[str, Any], path: Path, channels: int) -> None:
    """Raise CheckpointError, naming `path`, unless each channel has a latent mean and deviation in range."""
    from diffusers import AutoencoderKLWan

    scale = _numbers(LatentScale, _defaults(AutoencoderKLWan) | dict(config), path)
    for name in ("latents_mean", "latents_std"):
        if len(getattr(scale, name)) != channels:
            raise _wrong(path, f"{name} has {len(getattr(scale, name))} values; give {channels}, one per channel")


def check_mllm_config(config: Any, path: Path) -> None:
    """Like `check_dit_config`, for a `Qwen2_5_VLConfig` or a `Qwen3VLConfig`."""
    text, vision = config.text_config.to_dict(), config.vision_config.to_dict()
    words = _numbers(TextNumbers, text, path, "text_config.")
    tokens = _numbers(TokenIds, config.to_dict(), path)
    if config.model_type == "qwen3_vl":  # its head size is a separate setting
        sight = _numbers(Qwen3VisionNumbers, vision, path, "vision_config.")
        name, layers = "deepstack_visual_indexes", sight.deepstack_visual_indexes
        head = _numbers(HeadWidth, text, path, "text_config.").head_dim
        if math.isqrt(sight.num_position_embeddings) ** 2 != sight.num_position_embeddings:
            raise _wrong(path, f"num_position_embeddings is {sight.num_position_embeddings}; give a square number")
    else:
        sight = _numbers(VisionNumbers, vision, path, "vision_config.")
        name, layers = "fullatt_block_indexes", sight.fullatt_block_indexes
        _check_heads(path, "text_config", words.hidden_size, "num_attention_heads", words.num_attention_heads, 2)
        head = words.hidden_size // words.num_attention_heads
    _check_heads(path, "vision_config", sight.hidden_size, "num_heads", sight.num_heads, 4)
    if words.num_attention_heads % words.num_key_value_heads:
        raise _wrong(
            path,
            f"text_config.num_key_value_heads is {words.num_key_value_heads}; give a divisor of num_attention_heads, "
            f"{words.num_attention_heads}",
        )
    for field, token in {**dataclasses.asdict(tokens), "text_config.pad_token_id": words.pad_token_id}.items():
        if token is not None and token >= words.vocab_size:
            raise _wrong(path, f"{field} is {token}; give a number below vocab_size, {words.vocab_size}")
    if sight.out_hidden_size != words.hidden_size:
        raise _wrong(
            path,
            f"vision_config.out_hidden_size is {sight.out_hidden_size}; give {words.hidden_size}, the text model's "
            "hidden_size",
        )
    if beyond := [index for index in layers if index >= sight.depth]:
        raise _wrong(path, f"vision_config.{name} has {beyond[0]}; give numbers below {sight.depth}")
    rope = dict(text.get("rope_scaling") or {}) | dict(text.get("rope_parameters") or {})
    rope.setdefault("rope_theta", text.get("rope_theta", 1e6))
    turned = _numbers(Rope, rope, path, "text_config.rope_parameters.")
    if sum(turned.mrope_section) != head // 2:
        raise _wrong(
            path,
            f"mrope_section adds up to {sum(turned.mrope_section)}; give numbers that add up to {head // 2}, half the "
            "size of a head",
        )


def check_llava_config(config: Any, path: Path) -> None:
    """Like `check_dit_config`, for a `LlavaConfig`."""
    words = _numbers(LlamaNumbers, config.text_config.to_dict(), path, "text_config.")
    sight = _numbers(ClipNumbers, config.vision_config.to_dict(), path, "vision_config.")
    own = _numbers(LlavaNumbers, config.to_dict(), path)
    _check_heads(path, "text_config", words.hidden_size, "num_attention_heads", words.num_attention_heads, 2)
    _check_heads(path, "vision_config", sight.hidden_size, "num_attention_heads", sight.num_attention_heads, 1)
    if words.num_attention_heads % words.num_key_value_heads:
        raise _wrong(
            path,
            f"text_config.num_key_value_heads is {words.num_key_value_heads}; give a divisor of num_attention_heads, "
            f"{words.num_attention_heads}",
        )
    depth = sight.num_hidden_layers
    if not -depth - 1 <= own.vision_feature_layer <= depth:
        raise _wrong(
            path,
            f"vision_feature_layer is {own.vision_feature_layer}, but its CLIP has {depth} layers; give a number from "
            f"{-depth - 1} to {depth}",
        )


def check_unet_config(config: Mapping[str, Any], path: Path) -> None:
    """Like `check_dit_config`, for Stable Diffusion 1's UNet."""
    from diffusers import UNet2DConditionModel

    _numbers(UnetNumbers, _defaults(UNet2DConditionModel) | dict(config), path)
    _check_absent(
        ("class_embed_type", "addition_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim"), config, path
    )


def check_kl_config(config: Mapping[str, Any], path: Path) -> None:
    """Like `check_dit_config`, for Stable Diffusion 1's VAE."""
    from diffusers import AutoencoderKL

    _numbers(KlNumbers, _defaults(AutoencoderKL) | dict(config), path)
    _check_absent(("shift_factor", "latents_mean", "latents_std"), config, path)


def _check_absent(names: tuple[str, ...], config: Mapping[str, Any], path: Path) -> None:
    """Raise CheckpointError if a config sets options of models later than Stable Diffusion 1."""
    for name in names:
        if config.get(name) is not None:
            raise _wrong(path, f"{name} is {config[name]!r}, expected none; give weights of Stable Diffusion 1")


def _check_heads(path: Path, part: str, width: int, name: str, heads: int, multiple: int) -> None:
    if width % heads or width // heads % multiple:
        size = f", that leaves heads whose size is a multiple of {multiple}" if multiple > 1 else ""
        raise _wrong(path, f"{part}.{name} is {heads}; give a divisor of its hidden_size, {width}{size}")


def _numbers(cls: type[T], plain: Mapping[str, Any], path: Path, place: str = "") -> T:
    known = {field.name: plain[field.name] for field in dataclasses.fields(cls) if field.name in plain}
    try:
        return converted(cls, known, place)
    except FieldError as error:
        raise _wrong(path, str(error)) from error


def _defaults(model_class: type) -> dict[str, Any]:
    """The default arguments of a library's class, for those that a config leaves out."""
    parameters = inspect.signature(model_class.__init__).parameters.values()
    return {it.name: it.default for it in parameters if it.default is not inspect.Parameter.empty}


def _wrong(path: Path, what: str) -> CheckpointError:
    return CheckpointError(f"{quoted_path(path)} cannot be used: {what}.")
