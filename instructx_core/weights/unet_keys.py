"""Rename Stable Diffusion 1's UNet from diffusers' names to the original ones, which ComfyUI's UNET loader reads."""

from __future__ import annotations

import re

from ..errors import CheckpointError
from ..words import quoted

_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_BLOCK = re.compile(r"(down_blocks|up_blocks)\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")


def unet_name(name: str, layers: int, attends: tuple[bool, ...]) -> str:
    """A tensor's name in the original code.

    Args:
        layers: residual blocks per level, `layers_per_block`.
        attends: for each up block, whether it has attention.

    Raises:
        CheckpointError: not a tensor of such a UNet.
    """
    if found := _BLOCK.fullmatch(name):
        way, level, kind, number, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
        if way == "down_blocks":
            if kind == "downsamplers":
                return f"input_blocks.{(layers + 1) * (level + 1)}.0.op.{rest.removeprefix('conv.')}"
            return f"input_blocks.{1 + (layers + 1) * level + number}.{_inner(kind, rest)}"
        if kind == "upsamplers":
            return f"output_blocks.{(layers + 1) * level + layers}.{1 + attends[level]}.{rest}"
        return f"output_blocks.{(layers + 1) * level + number}.{_inner(kind, rest)}"
    if found := _MIDDLE.fullmatch(name):
        place = "middle_block.1" if found[1] == "attentions" else f"middle_block.{2 * int(found[2])}"
        return f"{place}.{_inner(found[1], found[3]).split('.', 1)[1]}"
    owner, _, kind = name.rpartition(".")
    if owner not in _ENDS:
        raise CheckpointError(
            f"{quoted(name)} is not a tensor of Stable Diffusion 1's UNet; give such a UNet as diffusers writes it."
        )
    return f"{_ENDS[owner]}.{kind}"


def _inner(kind: str, rest: str) -> str:
    """The name, within a block, of a tensor of the residual block (part 0) or of the attention after it (part 1)."""
    if kind == "attentions":
        return f"1.{rest}"
    layer, _, last = rest.rpartition(".")
    return f"0.{_RESNET[layer]}.{last}"
