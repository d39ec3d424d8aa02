"""How quantised layers are stored, as described in ComfyUI's files; no weight is read.

A file describes each layer in JSON, in one of two places (ComfyUI 0.33.0, QUANTIZATION.md, `comfy/ops.py`):
- the bytes of a tensor `LAYER.comfy_quant`;
- the file's metadata `_quantization_metadata`, {"layers": {LAYER: ...}}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..words import quoted, quoted_path, shown

SAID, METADATA = "comfy_quant", "_quantization_metadata"
LONGEST = 4096  # bytes of a layer's JSON at most
ROTATED = 256  # columns that one rotation mixes, unless the file says otherwise
GROUP = 16  # values that share a scale, unless the file says otherwise


class Format(str, Enum):
    """The formats by their names in files."""

    E4M3 = "float8_e4m3fn"
    E5M2 = "float8_e5m2"
    INT8 = "int8_tensorwise"
    NVFP4 = "nvfp4"
    MXFP8 = "mxfp8"
    W4A4 = "convrot_w4a4"
    W4A8 = "asym_w4a8_int8"

    @property
    def a_byte(self) -> int:
        """Values per byte."""
        return 2 if self in (Format.NVFP4, Format.W4A4, Format.W4A8) else 1

    @property
    def multiple(self) -> int:
        """Rows and columns are padded with zeros to a multiple of this."""
        return {Format.NVFP4: 16, Format.MXFP8: 32}.get(self, 1)


@dataclass(frozen=True)
class Packing:
    """How one layer's weight is stored."""

    format: Format
    rotated: int = 0  # columns that one rotation mixes, a power of 4; 0 for none
    group: int = GROUP  # of W4A8: values that share a scale
    said: str = ""  # the file's own JSON

    def shape(self, stored: tuple[int, ...], rows: int | None) -> tuple[int, ...]:
        """The shape of the values in a packed tensor, with padded columns.

        Args:
            rows: their number without padding, if known from the layer's bias.
        """
        if len(stored) != 2:
            return stored
        held, step = stored[0], self.format.multiple
        if rows is not None and held == -(-rows // step) * step:
            held = rows
        return held, stored[1] * self.format.a_byte


def read_packings(path: Path, header: Mapping[str, Any]) -> dict[str, Packing]:
    """The packings of the layers that a safetensors file describes, by name; `header` is from `read_header`.

    Raises:
        CheckpointError: an unknown format, or a damaged description.
    """
    said = {layer: _parsed(path, layer, text) for layer, text in _texts(path, header).items()}
    listed = header.get("__metadata__", {}).get(METADATA)
    if listed is not None:
        layers = _loaded(path, METADATA, listed).get("layers")
        if not isinstance(layers, dict):
            raise _unreadable(path, METADATA)
        said |= {layer: _packing(path, layer, plain) for layer, plain in layers.items()}
    return said


def _texts(path: Path, header: Mapping[str, Any]) -> dict[str, bytes]:
    """The JSON of layers that store it in a tensor."""
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    texts = {}
    with path.open("rb") as file:
        begin = path.stat().st_size - max(ends, default=0)
        for name, entry in header.items():
            layer, _, leaf = name.rpartition(".")
            if leaf != SAID:
                continue
            start, stop = entry["data_offsets"]
            if stop - start > LONGEST:
                raise _unreadable(path, name)
            file.seek(begin + start)
            texts[layer] = file.read(stop - start)
    return texts


def _parsed(path: Path, layer: str, text: bytes) -> Packing:
    return _packing(path, layer, _loaded(path, f"{layer}.{SAID}", text))


def _loaded(path: Path, name: str, text: bytes | str) -> dict[str, Any]:
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, name) from error
    if not isinstance(plain, dict):
        raise _unreadable(path, name)
    return plain


def _packing(path: Path, layer: str, plain: Any) -> Packing:
    if not isinstance(plain, dict):
        raise _unreadable(path, layer)
    spelled = plain.get("format")
    if spelled is None:
        raise CheckpointError(
            f"{quoted_path(path)} does not say in which format {quoted(layer)} is quantised; give the bf16, fp16 or "
            "fp8 file of this model."
        )
    try:
        kind = Format(spelled)
    except ValueError as error:
        raise CheckpointError(
            f"{quoted_path(path)} stores {quoted(layer)} in the format {shown(spelled)}, which is not supported; give "
            "the bf16, fp16 or fp8 file of this model."
        ) from error
    nested = plain.get("params")
    options = (nested if isinstance(nested, dict) else {}) | plain
    turned = kind in (Format.W4A4, Format.W4A8) or (kind is Format.INT8 and options.get("convrot") is True)
    rotated = _count(path, layer, options, "convrot_groupsize", ROTATED) if turned else 0
    group = _count(path, layer, options, "group_size", GROUP) if kind is Format.W4A8 else GROUP
    if rotated and (rotated.bit_count() != 1 or rotated.bit_length() % 2 == 0 or rotated < 4):
        raise _unreadable(path, layer)
    return Packing(kind, rotated, group, json.dumps(plain))


def _count(path: Path, layer: str, options: Mapping[str, Any], name: str, usual: int) -> int:
    value = options.get(name, usual)
    if type(value) is not int or not 1 <= value <= 2**16:
        raise _unreadable(path, layer)
    return value


def _unreadable(path: Path, name: str) -> CheckpointError:
    return CheckpointError(
        f"{quoted_path(path)} has a damaged description of quantised weights ({quoted(name)}); get the file again."
    )
