"""What a file of weights says of its tensors (safetensors, GGUF, a pickle), without reading one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..errors import CheckpointError
from .files import read_header
from .pickles import is_pickle, read_pickle

if TYPE_CHECKING:
    from gguf import GGUFReader

GGUF_MAGIC = b"GGUF"
# the safetensors format's names of dtypes (its documentation's table), of those that PyTorch has
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
SPELLED = {dtype: name for name, dtype in DTYPES.items()}
EIGHT_BITS = {"F8_E4M3", "F8_E5M2"}
# GGUF's types of fewer bits are packed too, but diffusers unpacks them
_FLOATS = {"F64", "F32", "F16", "BF16", *EIGHT_BITS}


@dataclass(frozen=True)
class Stored:
    """One tensor, as a header tells of it."""

    dtype: str  # as the format spells it: BF16, F8_E4M3, U8; of GGUF F16, Q8_0, Q4_K
    shape: tuple[int, ...]  # of the numbers, not of the bytes that they are packed into

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether it is stored number by number."""
        return self.dtype in _FLOATS


def read_stored(path: Path, allow_pickle: bool = False) -> dict[str, Stored]:
    """The tensors of a safetensors or GGUF file, or of a pickle that may be opened, by name.

    Raises:
        CheckpointError: a file that is missing, damaged or of another kind, or a GGUF where `gguf` is not installed.
    """
    if allow_pickle and is_pickle(path):
        state = read_pickle(path)
        return {name: Stored(spelled(path, name, value.dtype), tuple(value.shape)) for name, value in state.items()}
    if is_gguf(path):
        reader = read_gguf(path)
        return {
            tensor.name: Stored(tensor.tensor_type.name, tuple(int(size) for size in reversed(tensor.shape)))
            for tensor in reader.tensors
        }
    header = read_header(path)
    return {
        name: Stored(entry["dtype"], tuple(entry["shape"])) for name, entry in header.items() if name != "__metadata__"
    }


def spelled(path: Path, name: str, dtype: torch.dtype) -> str:
    """What safetensors files call the dtype of a pickle's tensor.

    Raises:
        CheckpointError: one that they do not have.
    """
    if dtype not in SPELLED:
        raise CheckpointError(f"{str(path)!r} holds {name!r} in {dtype}, which safetensors files do not have.")
    return SPELLED[dtype]


def is_gguf(path: Path) -> bool:
    """Whether a file begins as GGUF files do; a file that cannot be read does not."""
    try:
        with path.open("rb") as file:
            return file.read(len(GGUF_MAGIC)) == GGUF_MAGIC
    except OSError:
        return False


def read_gguf(path: Path) -> GGUFReader:
    """A GGUF file's header; its tensors are mapped, not read.

    Raises:
        CheckpointError: the package `gguf` is missing, or the file is truncated or damaged.
    """
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise CheckpointError(
            f"{str(path)!r} is a GGUF file, which needs the package gguf; install it with `pip install gguf`."
        ) from error
    try:
        return GGUFReader(path)
    except Exception as error:  # it checks little: a cut file ends in whatever numpy raises
        raise CheckpointError(f"{str(path)!r} is a GGUF file that is truncated or damaged; get it again.") from error
