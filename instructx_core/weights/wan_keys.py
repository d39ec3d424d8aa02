"""Rename Wan weights between diffusers and the original code (which ComfyUI's native loader reads).

Facts this file rests on:
- Converting only renames: no tensor of the DiT or of either VAE changes its shape or its values. So every function here
  is generic in the values of the state dict (tensors, lazy slices, or names, for a plan of a streaming conversion), and
  passes them on untouched, in order.
- Each pair of layouts is one table, built for the depth at hand and read in either direction, so a round trip is the
  identity by construction. A name outside the table is an error; nothing is guessed or silently dropped.
- The DiT's three norms are numbered 1, 3, 2 in the original and 1, 2, 3 in diffusers; only the one before
  cross-attention has weights, hence `norm3` <-> `norm2`.
- The Wan2.1 VAE (`is_residual=False`) is a flat list of layers in the original; the Wan2.2 VAE (`is_residual=True`)
  has one nested list per resolution, whose averaging shortcuts have no parameters.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from ..errors import CheckpointError
from ..words import listed
from .wrapped_names import NameLayout

T = TypeVar("T")

HEAD_DIM = 128  # the only size of a DiT that is in no shape; in all published Wan models and ComfyUI

_logger = logging.getLogger(__name__)

# original module -> diffusers module; each has a `weight` and, except RMS norms, a `bias`.
_DIT_MODULES = {
    "patch_embedding": "patch_embedding",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
    "head.head": "proj_out",
}
_DIT_PARAMETERS = {
    "img_emb.emb_pos": "condition_embedder.image_embedder.pos_embed",
    "head.modulation": "scale_shift_table",
}
_ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0", "norm_q": "norm_q", "norm_k": "norm_k"}
_IMAGE_ATTENTION = {"k_img": "add_k_proj", "v_img": "add_v_proj", "norm_k_img": "norm_added_k"}
_BLOCK_MODULES = {
    **{f"self_attn.{original}": f"attn1.{diffusers}" for original, diffusers in _ATTENTION.items()},
    **{
        f"cross_attn.{original}": f"attn2.{diffusers}"
        for original, diffusers in (_ATTENTION | _IMAGE_ATTENTION).items()
    },
    "norm3": "norm2",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
}
_BLOCK_PARAMETERS = {"modulation": "scale_shift_table"}
# Early diffusers exports of image-to-video models carry a norm that no forward pass reads; diffusers skips it on load.
_UNREAD = re.compile(r"blocks\.\d+\.attn2\.norm_added_q\.weight")

# Patch embeddings that an editor's file stores next to its DiT, in separate modules.
_EMBEDDING = re.compile(r"(?:.+\.)?(\w+_condition\.patch_embedding\.(?:weight|bias))")

# The layers of the VAE's residual block, attention and resampler; the table of a whole VAE is built from them.
_RESNET = {"residual.2": "conv1", "residual.6": "conv2", "shortcut": "conv_shortcut"}
_RESNET_GAMMAS = {"residual.0.gamma": "norm1.gamma", "residual.3.gamma": "norm2.gamma"}
_VAE_ATTENTION = {"to_qkv": "to_qkv", "proj": "proj"}
_RESAMPLE = {"resample.1": "resample.1", "time_conv": "time_conv"}


def dit_to_original(state: Mapping[str, T]) -> dict[str, T]:
    """Rename a diffusers `WanTransformer3DModel` state dict to the original Wan names.

    `state` may be part of a model (one shard). Only `norm_added_q`, which diffusers itself does not load, is dropped
    (and logged). Raises CheckpointError naming the unknown tensors, such as those of a model with additional modules
    (VACE, Animate).
    """
    state = DIT_LIBRARY.unwrapped(state)
    unread = [name for name in state if is_unread(name)]
    if unread:
        _logger.info("left out %d tensors that diffusers does not read (%s, ...)", len(unread), unread[0])
        state = {name: value for name, value in state.items() if not is_unread(name)}
    table = _dit_table(_numbers(state, r"blocks\.(\d{1,4})\."))
    return _rename(state, {diffusers: original for original, diffusers in table.items()}, "a diffusers Wan transformer")


def dit_to_diffusers(state: Mapping[str, T]) -> dict[str, T]:
    """Rename original Wan DiT weights to the names of diffusers' `WanTransformer3DModel`.

    `state` may be part of a model; names may be wrapped. Raises CheckpointError naming the unknown tensors, or one
    that occurs both with and without a prefix.
    """
    bare = DIT_ORIGINAL.unwrapped(state)
    return _rename(bare, _dit_table(_numbers(bare, r"blocks\.(\d{1,4})\.")), "an original Wan transformer")


def split_embeddings(state: Mapping[str, T]) -> tuple[dict[str, T], dict[str, T]]:
    """Split a file into its DiT and the patch embeddings that an editor stores with it, whose prefixes are removed."""
    dit: dict[str, T] = {}
    embeddings: dict[str, T] = {}
    for name, value in state.items():
        found = _EMBEDDING.fullmatch(name)
        if found is None:
            dit[name] = value
        else:
            embeddings[found[1]] = value
    return dit, embeddings


def is_unread(name: str) -> bool:
    """Whether diffusers skips this tensor of a DiT on load, because no forward pass reads it."""
    return _UNREAD.fullmatch(name) is not None


def vae_to_original(state: Mapping[str, T]) -> dict[str, T]:
    """Rename a diffusers `AutoencoderKLWan` state dict to the original names of Wan2.1's or Wan2.2's VAE.

    `state` must be the whole model: its depth is read from the names. Raises CheckpointError naming the unknown
    tensors.
    """
    state = VAE_LIBRARY.unwrapped(state)
    residual = bool(_numbers(state, r"encoder\.down_blocks\.(\d{1,3})\.resnets\."))
    levels = _numbers(state, r"decoder\.up_blocks\.(\d{1,3})\.")
    resnets = _numbers(state, r"decoder\.up_blocks\.\d+\.resnets\.(\d{1,3})\.")
    table = _vae_table(residual, 1 + max(levels, default=0), max(resnets, default=0))
    return _rename(state, {diffusers: original for original, diffusers in table.items()}, "a diffusers Wan VAE")


def vae_to_diffusers(state: Mapping[str, T]) -> dict[str, T]:
    """Rename original Wan VAE weights (Wan2.1 or Wan2.2) to the names of diffusers' `AutoencoderKLWan`.

    `state` must be the whole model: its depth is read from the names. Raises CheckpointError naming the unknown
    tensors.
    """
    bare = VAE_ORIGINAL.unwrapped(state)
    return _rename(bare, _vae_table(*_original_vae_layout(bare)), "an original Wan VAE")


def dit_config_from_original(state: Mapping[str, Any]) -> dict[str, Any]:
    """Read the arguments of `WanTransformer3DModel` from original DiT weights (anything with a `.shape`).

    Raises CheckpointError if a required tensor is missing or the width is not a multiple of `HEAD_DIM`.
    """
    shapes = {DIT_ORIGINAL.bare(name): tuple(value.shape) for name, value in state.items()}
    dim, in_channels, *patch_size = _shape(shapes, "patch_embedding.weight", 5)
    if dim % HEAD_DIM:
        raise CheckpointError(
            f"its width, {dim}, is not a multiple of {HEAD_DIM}, the head size of published Wan models; give its "
            "diffusers folder, whose config.json states the size of its heads."
        )
    return {
        "patch_size": tuple(patch_size),
        "num_attention_heads": dim // HEAD_DIM,
        "attention_head_dim": HEAD_DIM,
        "in_channels": in_channels,
        "out_channels": _shape(shapes, "head.head.weight", 2)[0] // math.prod(patch_size),
        "text_dim": _shape(shapes, "text_embedding.0.weight", 2)[1],
        "freq_dim": _shape(shapes, "time_embedding.0.weight", 2)[1],
        "ffn_dim": _shape(shapes, "blocks.0.ffn.0.weight", 2)[0],
        "num_layers": 1 + max(_numbers(shapes, r"blocks\.(\d{1,4})\.")),
        "cross_attn_norm": "blocks.0.norm3.weight" in shapes,
        "image_dim": shapes.get("img_emb.proj.0.weight", (None,))[0],
        "added_kv_proj_dim": shapes.get("blocks.0.cross_attn.k_img.weight", (None, None))[1],
        "pos_embed_seq_len": shapes.get("img_emb.emb_pos", (None, None))[1],
    }


def vae_config_from_original(state: Mapping[str, Any]) -> dict[str, Any]:
    """Read the arguments of `AutoencoderKLWan` from a whole model's original VAE weights (anything with a `.shape`).

    `latents_mean` and `latents_std` are not included, as no weight holds them. Pixels are RGB, so a first convolution
    with 12 inputs means 2 x 2 pixel patches. Raises CheckpointError if a tensor is missing or widths are not multiples
    of the first.
    """
    shapes = {VAE_ORIGINAL.bare(name): tuple(value.shape) for name, value in state.items()}
    residual, levels, blocks = _original_vae_layout(shapes)
    base_dim, in_channels = _shape(shapes, "encoder.conv1.weight", 5)[:2]
    resnets = ["encoder." + _stage("downsamples", residual, level, blocks - 1, blocks) for level in range(levels)]
    samplers = ["encoder." + _stage("downsamples", residual, level, blocks, blocks) for level in range(levels - 1)]
    widths = [_shape(shapes, f"{resnet}.residual.6.weight", 5)[0] for resnet in resnets]
    temporal = [f"{sampler}.time_conv.weight" in shapes for sampler in samplers]
    decoder_width = _shape(shapes, "decoder.head.0.gamma", 4)[0]
    if any(width % base_dim for width in widths) or decoder_width * base_dim % widths[0]:
        raise CheckpointError(f"its widths {widths} are not multiples of the first, {base_dim}; give another Wan VAE.")
    patch = math.isqrt(in_channels // 3)
    return {
        "base_dim": base_dim,
        "decoder_base_dim": decoder_width * base_dim // widths[0],
        "z_dim": _shape(shapes, "conv2.weight", 5)[0],
        "dim_mult": [width // base_dim for width in widths],
        "num_res_blocks": blocks,
        "temperal_downsample": temporal,
        "is_residual": residual,
        "in_channels": in_channels,
        "out_channels": _shape(shapes, "decoder.head.2.weight", 5)[0],
        "patch_size": patch if patch > 1 else None,
        "scale_factor_temporal": 2 ** sum(temporal),
        "scale_factor_spatial": patch * 2 ** (levels - 1),
    }


def _dit_table(blocks: Iterable[int]) -> dict[str, str]:
    """Original name -> diffusers name, for a DiT with these block numbers."""
    table = _leaves(_DIT_MODULES) | _DIT_PARAMETERS
    block = _leaves(_BLOCK_MODULES) | _BLOCK_PARAMETERS
    for number in blocks:
        table |= _under(f"blocks.{number}", f"blocks.{number}", block)
    return table


def _vae_table(residual: bool, levels: int, blocks: int) -> dict[str, str]:
    """Original name -> diffusers name, for a VAE with `levels` resolutions of `blocks` residual blocks each.

    The decoder has one more block per resolution. The table holds every name that such a VAE can have; which of them it
    has (shortcuts, temporal convolutions) depends on its widths and strides.
    """
    resnet = _leaves(_RESNET) | _RESNET_GAMMAS
    resample = _leaves(_RESAMPLE)
    table = _leaves({"conv1": "quant_conv", "conv2": "post_quant_conv"})
    for half in ("encoder", "decoder"):
        table |= _under(half, half, _leaves({"conv1": "conv_in", "head.2": "conv_out"}))
        table |= _under(half, half, {"head.0.gamma": "norm_out.gamma"})
        table |= _under(f"{half}.middle.0", f"{half}.mid_block.resnets.0", resnet)
        table |= _under(f"{half}.middle.2", f"{half}.mid_block.resnets.1", resnet)
        attention = _leaves(_VAE_ATTENTION) | {"norm.gamma": "norm.gamma"}
        table |= _under(f"{half}.middle.1", f"{half}.mid_block.attentions.0", attention)
    for level in range(levels):
        for index in range(blocks + 1):
            original = "encoder." + _stage("downsamples", residual, level, index, blocks)
            if not residual:  # the one list that diffusers keeps flat
                diffusers = original.replace("downsamples", "down_blocks")
            elif index < blocks:
                diffusers = f"encoder.down_blocks.{level}.resnets.{index}"
            else:
                diffusers = f"encoder.down_blocks.{level}.downsampler"
            table |= _under(original, diffusers, resnet if index < blocks else resample)
        for index in range(blocks + 1):
            original = "decoder." + _stage("upsamples", residual, level, index, blocks + 1)
            table |= _under(original, f"decoder.up_blocks.{level}.resnets.{index}", resnet)
        upsampler = "upsampler" if residual else "upsamplers.0"
        original = "decoder." + _stage("upsamples", residual, level, blocks + 1, blocks + 1)
        table |= _under(original, f"decoder.up_blocks.{level}.{upsampler}", resample)
    return table


def _stage(sequence: str, residual: bool, level: int, index: int, count: int) -> str:
    """The original's name of layer `index` of a resolution with `count` residual blocks and, last, one resampler."""
    if residual:
        return f"{sequence}.{level}.{sequence}.{index}"
    return f"{sequence}.{level * (count + 1) + index}"


def _original_vae_layout(names: Iterable[str]) -> tuple[bool, int, int]:
    """(is_residual, resolutions, residual blocks per resolution of the encoder) of original VAE weights."""
    names = list(names)
    inner = _numbers(names, r"decoder\.upsamples\.\d+\.upsamples\.(\d{1,3})\.residual\.")
    outer = _numbers(names, r"decoder\.upsamples\.(\d{1,3})\.")
    last = max(outer, default=0)
    if inner:
        return True, last + 1, max(inner)
    # Flat: the first resampler ends the first resolution; a VAE of one resolution has none.
    resamplers = _numbers(names, r"decoder\.upsamples\.(\d{1,3})\.resample\.")
    count = min(resamplers, default=last + 1)
    return False, last // (count + 1) + 1, max(count - 1, 0)


def _rename(state: Mapping[str, T], table: Mapping[str, str], kind: str) -> dict[str, T]:
    unknown = [name for name in state if name not in table]
    if unknown:
        raise CheckpointError(
            f"{len(unknown)} of {len(state)} tensors do not belong to {kind} ({listed(unknown, 5)}); give other "
            "weights."
        )
    return {table[name]: value for name, value in state.items()}


def _leaves(modules: Mapping[str, str]) -> dict[str, str]:
    return {f"{a}.{leaf}": f"{b}.{leaf}" for a, b in modules.items() for leaf in ("weight", "bias")}


def _under(original: str, diffusers: str, table: Mapping[str, str]) -> dict[str, str]:
    return {f"{original}.{a}": f"{diffusers}.{b}" for a, b in table.items()}


def _numbers(names: Iterable[str], pattern: str) -> set[int]:
    """The numbers that the pattern's group captures in the names that begin with the pattern."""
    matches = (re.match(pattern, name) for name in names)
    return {int(match[1]) for match in matches if match}


def _shape(shapes: Mapping[str, tuple[int, ...]], name: str, dimensions: int) -> tuple[int, ...]:
    shape = shapes.get(name)
    if shape is None or len(shape) != dimensions:
        found = "is missing" if shape is None else f"has the shape {shape}"
        raise CheckpointError(f"{name!r} {found}, expected {dimensions} dimensions; get the weights again.")
    return shape


# one level of each is enough: layouts ignore numbers
DIT_ORIGINAL, DIT_LIBRARY = (NameLayout(names) for names in (_dit_table([0]).keys(), _dit_table([0]).values()))
_VAE_TABLES = [_vae_table(residual, 1, 1) for residual in (False, True)]
VAE_ORIGINAL = NameLayout(name for table in _VAE_TABLES for name in table)
VAE_LIBRARY = NameLayout(name for table in _VAE_TABLES for name in table.values())
