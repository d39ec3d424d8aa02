"""The tensors that a weight file declares (safetensors, GGUF, a pickle), without reading them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError
from ..words import quoted
from .files import read_header
from .gguf_header import is_gguf, open_gguf, original_shapes
from .packing import Format, Packing, read_packings
from .pickles import is_pickle, read_pickle

# safetensors' names (from the table in its documentation) of the dtypes that PyTorch has
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.uint8,  # exponents only, for which torch 2.6 has no dtype
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
SPELLED = {dtype: name for name, dtype in DTYPES.items()}
EIGHT_BITS = {"F8_E4M3", "F8_E5M2"}
# not GGUF's types of fewer bits: they are packed, and diffusers unpacks them
_FLOATS = {"F64", "F32", "F16", "BF16", *EIGHT_BITS}


@dataclass(frozen=True)
class Stored:
    """One tensor, as described by a header."""

    dtype: str  # as the format spells it: BF16, F8_E4M3, U8; in GGUF F16, Q8_0, Q4_K
    shape: tuple[int, ...]  # of the values, not of the bytes that they are packed into
    is_reshaped: bool = False  # a GGUF stores it in another shape
    packing: Packing | None = None  # of a quantised layer's weight

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def kind(self) -> str:
        """Its storage type: the dtype, or a quantised layer's format."""
        if self.packing is None or self.packing.format in (Format.E4M3, Format.E5M2):
            return self.dtype
        return self.packing.format.value

    @property
    def is_float(self) -> bool:
        """Whether it is stored as plain floats."""
        return self.dtype in _FLOATS


def read_stored(path: Path, allow_pickle: bool = False) -> dict[str, Stored]:
    """The tensors of a safetensors or GGUF file, or of a pickle if allowed, by name.

    Raises:
        CheckpointError: a file that is missing, damaged or of another kind, or a GGUF if `gguf` is not installed.
    """
    if allow_pickle and is_pickle(path):
        state = read_pickle(path)
        return {name: Stored(spelled(path, name, value.dtype), tuple(value.shape)) for name, value in state.items()}
    if is_gguf(path):
        reader = open_gguf(path)
        own = original_shapes(reader, path)
        return {
            tensor.name: Stored(
                tensor.tensor_type.name,
                own.get(tensor.name) or tuple(int(size) for size in reversed(tensor.shape)),
                tensor.name in own,
            )
            for tensor in reader.tensors
        }
    header = read_header(path)
    return stored_of(header) | _quantised(path, header)


def stored_of(header: Mapping[str, Any]) -> dict[str, Stored]:
    """The tensors declared by a safetensors header (`read_header`)."""
    return {
        name: Stored(entry["dtype"], tuple(entry["shape"])) for name, entry in header.items() if name != "__metadata__"
    }


def _quantised(path: Path, header: Mapping[str, Any]) -> dict[str, Stored]:
    """The weights that a safetensors file declares as packed."""
    found = {}
    for layer, packing in read_packings(path, header).items():
        if entry := header.get(f"{layer}.weight"):
            bias = header.get(f"{layer}.bias", {}).get("shape")
            shape = packing.shape(tuple(entry["shape"]), bias[0] if bias else None)
            found[f"{layer}.weight"] = Stored(entry["dtype"], shape, packing=packing)
    return found


def spelled(path: Path, name: str, dtype: torch.dtype) -> str:
    """The safetensors name of the dtype of a pickle's tensor.

    Raises:
        CheckpointError: a dtype that safetensors files do not have.
    """
    if dtype not in SPELLED:
        raise CheckpointError(
            f"{str(path)!r} holds {quoted(name)} as {dtype}, which safetensors does not support; give other weights."
        )
    return SPELLED[dtype]
