"""Weights in 8-bit floats, with and without scales: what Comfy-Org's files hold beside a model's own tensors.

A scaled layer's weight is `weight * scale`, one scale for the layer or one for each of its rows. Two spellings are in
use (ComfyUI 0.33.0, `comfy/utils.py` `convert_old_quants` and `comfy/ops.py`):
- `LAYER.scale_weight`, perhaps `LAYER.scale_input`, and one marker `scaled_fp8` for the file;
- `LAYER.weight_scale`, perhaps `LAYER.input_scale`, and `LAYER.comfy_quant` (JSON) or metadata that names the format.
Scales of inputs are for kernels that multiply 8-bit floats; weights that are widened first do without.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch

from ..errors import CheckpointError
from ..words import quoted
from .stored import Stored

T = TypeVar("T")

_SCALES = ("scale_weight", "weight_scale")
_BESIDE = {*_SCALES, "scale_input", "input_scale", "comfy_quant", "scaled_fp8", "spiece_model"}


def is_beside(name: str) -> bool:
    """Whether a tensor is not a weight: it says how another one is stored, or holds a tokenizer."""
    return name.rpartition(".")[2] in _BESIDE


def scale_of(name: str, state: Mapping[str, T]) -> T | None:
    """The scale of the tensor `name` among the tensors of a model, None where it has none."""
    layer, _, leaf = name.rpartition(".")
    if leaf != "weight":
        return None
    return next((state[f"{layer}.{scale}"] for scale in _SCALES if f"{layer}.{scale}" in state), None)


def check_scales(tensors: Mapping[str, Stored], source: object) -> None:
    """Raise CheckpointError if a tensor is stored in a way that `widened` cannot undo.

    Args:
        tensors: all of a model's, those beside its own included.
        source: the path to name.
    """
    for name, stored in tensors.items():
        if is_beside(name):
            continue
        scale = scale_of(name, tensors)
        in_blocks = scale is not None and (not scale.is_float or scale.numel not in (1, *stored.shape[:1]))
        if in_blocks or not stored.is_float:
            how = "packed or in whole numbers" if not stored.is_float else "with scales of blocks"
            raise CheckpointError(
                f"{str(source)!r} stores {quoted(name)} as {stored.dtype}, {how}, which is not read here; give the "
                "bf16, fp16 or fp8 file of this model."
            )


def widened(weight: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    """The values of a stored weight: itself where it has no scale, else float32.

    Args:
        weight: [rows, ...] of any float type.
        scale: of one number, or of one for each row.
    """
    if scale is None:
        return weight
    return weight.float() * scale.float().reshape(-1, *[1] * (weight.ndim - 1))
