"""Dequantise weights from ComfyUI's files: 8- and 4-bit floats and integers with their scales.

| format | stored as | companion tensors | the weight |
|---|---|---|---|
| fp8 | 8-bit floats | `weight_scale` or `scale_weight`: one value, or one per row | stored * scale |
| int8 | integers | `weight_scale`: one value, or one per row | stored * scale, rotation of the columns undone |
| nvfp4 | two 4-bit floats a byte | `weight_scale`: one per block of 16; `weight_scale_2` | stored * (scale_2 * scale) |
| mxfp8 | 8-bit floats | `weight_scale`: an exponent per block of 32 | stored * 2^(scale - 127) |
| w4a4, w4a8 | two 4-bit values a byte | scales, a codebook | by comfy-kitchen (`pip install comfy-kitchen`) |

(ComfyUI 0.33.0: `comfy/ops.py`, `comfy/utils.py`; comfy-kitchen 0.2.31: every value equals that of its `dequantize`,
bit for bit.) Two spellings of fp8 are in use: the older has one marker `scaled_fp8` per file, the newer describes each
layer (`packing`). Input scales are for kernels that multiply 8-bit values; they are ignored, as weights are dequantised
first.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

import torch

from ..errors import CheckpointError
from ..words import quoted
from .packing import SAID, Format, Packing
from .stored import Stored

if TYPE_CHECKING:
    from .compare import Shapes

T = TypeVar("T")

_SCALES = ("scale_weight", "weight_scale")
# further companion tensors that some formats need, by the last part of their names
_FURTHER = {
    Format.NVFP4: ("weight_scale_2",),
    Format.W4A8: ("weight_s_rel", "weight_s_channel"),
}
_PERHAPS = ("pre_quant_scale", "weight_codebook")
_BESIDE = {
    *_SCALES, *_PERHAPS, *(name for names in _FURTHER.values() for name in names),
    "scale_input", "input_scale", SAID, "scaled_fp8", "spiece_model",
}  # fmt: skip
# the values of a 4-bit float (two exponent bits, one mantissa bit), by its bits without the sign
_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_BLOCKS = {Format.NVFP4: 16, Format.MXFP8: 32}  # columns that share a scale
_KITCHEN = {Format.W4A4, Format.W4A8}
_EIGHT_BITS = {Format.E4M3: torch.float8_e4m3fn, Format.E5M2: torch.float8_e5m2}


def is_beside(name: str) -> bool:
    """Whether a tensor is not a weight but describes how another is stored, or holds a tokenizer."""
    return name.rpartition(".")[2] in _BESIDE


def beside(name: str, state: Mapping[str, T]) -> dict[str, T]:
    """The companion tensors of the tensor `name`, such as its scales, by the last part of their names; {} if none."""
    layer, _, leaf = name.rpartition(".")
    if leaf != "weight":
        return {}
    leaves = (*_SCALES, *_PERHAPS, *(name for names in _FURTHER.values() for name in names))
    found = {own: state[f"{layer}.{own}"] for own in leaves if f"{layer}.{own}" in state}
    if "scale_weight" in found:
        found["weight_scale"] = found.pop("scale_weight")
    return found


def said_by_layer(tensors: Mapping[str, Stored]) -> dict[str, torch.Tensor]:
    """The descriptions of how quantised layers are stored, as tensors, since ComfyUI reads them only from tensors."""
    said = {
        name.removesuffix("weight") + SAID: stored.packing.said.encode()
        for name, stored in tensors.items()
        if stored.packing is not None
    }
    return {name: torch.frombuffer(bytearray(text), dtype=torch.uint8) for name, text in said.items()}


def check_readable(tensors: Mapping[str, Stored], source: object) -> None:
    """Raise CheckpointError if a tensor is stored in a way that `widened` cannot decode.

    Args:
        tensors: all of a model's, companion tensors included.
        source: the path to name.
    """
    for name, stored in tensors.items():
        if is_beside(name):
            continue
        held = beside(name, tensors)
        in_kitchen = stored.packing is not None and stored.packing.format in _KITCHEN
        if held and "weight_scale" not in held and not in_kitchen:
            raise CheckpointError(
                f"{str(source)!r} stores {quoted(name)} with {min(held)} but no weight_scale; get the file again."
            )
        if stored.packing is not None:
            _check_packed(name, stored, held, source)
            continue
        scale = held.get("weight_scale")
        in_blocks = scale is not None and (not scale.is_float or scale.numel not in (1, *stored.shape[:1]))
        if in_blocks or not stored.is_float:
            how = "packed or as integers" if not stored.is_float else "with block scales"
            raise CheckpointError(
                f"{str(source)!r} stores {quoted(name)} as {stored.dtype}, {how}, and does not say in which format; "
                "give the bf16, fp16 or fp8 file of this model."
            )


def widened(weight: torch.Tensor, held: Mapping[str, torch.Tensor], packing: Packing | None) -> torch.Tensor:
    """The values of a stored weight: unchanged if it has no companion tensors, else float32.

    Args:
        weight: as stored, [rows, ...].
        held: from `beside`.
        packing: the file's description of it.

    Raises:
        CheckpointError: the format needs comfy-kitchen, which is not installed.
    """
    kind = None if packing is None else packing.format
    if kind in _EIGHT_BITS:
        weight = weight.view(_EIGHT_BITS[kind])  # some files declare them as plain bytes
    if not held:
        return weight
    if kind in _KITCHEN:
        values = _by_kitchen(weight, held, packing)
    elif kind in _BLOCKS:
        values = _blocks(weight, held, kind)
    else:
        values = weight.float() * held["weight_scale"].float().reshape(-1, *[1] * (weight.ndim - 1))
        if packing is not None and packing.rotated:
            values = _turned_back(values, packing.rotated)
    if "pre_quant_scale" in held:  # scales the inputs' columns: (x * s) W^T = x (W * s)^T
        values = values * held["pre_quant_scale"].float()
    return values


def unpadded(found: Mapping[str, Stored], wanted: Shapes) -> dict[str, tuple[int, ...]]:
    """The shapes of stored tensors; of padded ones, the shape that the model expects, if padding it gives theirs."""
    shapes = {}
    for name, stored in found.items():
        shape = wanted.get(name, ())
        step = 1 if stored.packing is None else stored.packing.format.multiple
        fits = len(shape) == 2 == len(stored.shape) and all(
            own in (size, -(-size // step) * step) for own, size in zip(stored.shape, shape, strict=True)
        )
        shapes[name] = tuple(shape) if fits else tuple(stored.shape)
    return shapes


def without_filling(value: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """A weight without the padding of its rows and columns."""
    return value if value.shape == shape else value[tuple(slice(size) for size in shape)]


def _check_packed(name: str, stored: Stored, held: Mapping[str, Stored], source: object) -> None:
    kind, (rows, columns) = stored.packing.format, (stored.shape if len(stored.shape) == 2 else (0, 0))
    first = "weight_s_rel" if kind is Format.W4A8 else "weight_scale"
    missing = next((leaf for leaf in (first, *_FURTHER.get(kind, ())) if leaf not in held), None)
    if missing is not None and kind not in _EIGHT_BITS:
        raise CheckpointError(
            f"{str(source)!r} stores {quoted(name)} as {kind.value}, but its {missing} is missing; get the file again."
        )
    if kind in _BLOCKS:
        filled = -(-rows // kind.multiple) * kind.multiple
        count = -(-filled // 128) * 128 * -(-columns // (4 * _BLOCKS[kind])) * 4
        fits = columns and columns % kind.multiple == 0 and held["weight_scale"].numel == count
    elif kind in _KITCHEN:
        fits = bool(columns)
    else:
        fits = missing is not None or held["weight_scale"].numel in (1, *stored.shape[:1])
    if stored.packing.rotated and columns % stored.packing.rotated:
        fits = False
    if not fits:
        raise CheckpointError(
            f"{str(source)!r} stores {quoted(name)} as {kind.value} of the shape {stored.shape}, which its scales do "
            "not fit; get the file again."
        )
    if kind in _KITCHEN:
        _kitchen(repr(str(source)))


def _blocks(weight: torch.Tensor, held: Mapping[str, torch.Tensor], kind: Format) -> torch.Tensor:
    """nvfp4 and mxfp8, with one scale per block of a row's columns: float32 [rows, columns], still padded."""
    if kind is Format.NVFP4:
        codes = torch.stack([weight.view(torch.uint8) >> 4, weight.view(torch.uint8) & 15], dim=-1).flatten(1)
        table = torch.tensor([*_E2M1, *(-value for value in _E2M1)], device=weight.device)
        numbers = table[codes.int()]
        scales = held["weight_scale"].view(torch.float8_e4m3fn).float() * held["weight_scale_2"].float()
    else:
        numbers = weight.view(torch.float8_e4m3fn).float()
        scales = (held["weight_scale"].view(torch.uint8).int() << 23).view(torch.float32)  # exponent bits; 0 is 0
    rows, columns = numbers.shape
    scales = _in_rows(scales, rows, columns // _BLOCKS[kind])
    return (numbers.reshape(rows, -1, _BLOCKS[kind]) * scales[..., None]).reshape(rows, columns)


def _in_rows(tiles: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Reorder scales row by row from the 128 x 4 tiles that GPUs use (cuBLAS, "1D block scaling factors layout")."""
    down, across = -(-rows // 128), -(-columns // 4)
    own = tiles.reshape(down, across, 32, 4, 4).permute(0, 3, 2, 1, 4)
    return own.reshape(down * 128, across * 4)[:rows, :columns]


def _turned_back(values: torch.Tensor, size: int) -> torch.Tensor:
    """Undo the rotation of each group of `size` columns by a Hadamard matrix, which is its own inverse (ConvRot)."""
    rows = [[1.0, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]]
    first = torch.tensor(rows, device=values.device)
    matrix = first
    while len(matrix) < size:
        matrix = torch.kron(matrix, first)
    matrix = matrix / size**0.5
    return (values.unflatten(1, (-1, size)) @ matrix.T).flatten(1)


def _by_kitchen(weight: torch.Tensor, held: Mapping[str, torch.Tensor], packing: Packing) -> torch.Tensor:
    kitchen = _kitchen("the file")
    if packing.format is Format.W4A4:
        return kitchen.dequantize_convrot_w4a4_weight(
            weight, held["weight_scale"], packing.rotated, output_dtype=torch.float32
        )
    return kitchen.dequantize_w4a8_int8_weight(
        weight,
        held["weight_s_rel"].view(torch.float8_e4m3fn),
        held["weight_s_channel"],
        codebook=held.get("weight_codebook"),
        group_size=packing.group,
        convrot_groupsize=packing.rotated,
        output_dtype=torch.float32,
    )


def _kitchen(holder: str) -> ModuleType:
    """The package that unpacks 4-bit weights; raises CheckpointError, beginning with `holder`, if it is missing."""
    try:
        import comfy_kitchen.tensor as kitchen
    except ImportError as error:
        raise CheckpointError(
            f"{holder} holds 4-bit weights, which need the package comfy-kitchen; install it with "
            "`pip install comfy-kitchen`, or give the bf16, fp16 or fp8 file of this model."
        ) from error
    return kitchen
