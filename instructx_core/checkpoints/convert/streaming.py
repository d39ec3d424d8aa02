"""Files made out of others without loading them: their bytes come in pieces, tensors under other names.

Peak memory is one piece, whatever the weights weigh. The safetensors format says where each tensor's bytes lie, so
renaming and merging shards need a new header and nothing else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import CheckpointError
from ..files import read_header
from .pickles import is_pickle, read_pickle

CHUNK = 16 * 2**20  # bytes read at a time
ALIGNMENT = 8  # bytes; the header is filled up with spaces to a multiple, as the safetensors library does

# The safetensors format's names of dtypes (its documentation's table), as far as PyTorch saves them into pickles.
_DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


@dataclass(frozen=True)
class Content:
    """What a file is to hold."""

    size: int  # bytes
    chunks: Callable[[], Iterator[bytes]]  # all of them, from the first on, at each call


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: what a header says of it, and its bytes."""

    dtype: str  # as the safetensors format calls it
    shape: tuple[int, ...]
    content: Content

    @property
    def itemsize(self) -> int:
        return self.content.size // max(1, math.prod(self.shape))


def text(value: str) -> Content:
    """A text file."""
    data = value.encode()
    return Content(len(data), lambda: iter([data]))


def copied(path: Path) -> Content:
    """A file as it is."""
    return _range(path, 0, path.stat().st_size)


def tensors(
    sources: Mapping[Path, Mapping[str, str]], metadata: Mapping[str, str] | None = None, allow_pickle: bool = False
) -> Content:
    """One safetensors file of tensors that lie in others.

    Args:
        sources: for each file, which of its tensors are taken and what they are called in the new one.
        metadata: of the new file.
        allow_pickle: as `stored_tensors`.

    Raises:
        CheckpointError: as `stored_tensors`, or a tensor that is not there, or two that would have one name.
    """
    taken: dict[str, StoredTensor] = {}
    for path, names in sources.items():
        found = stored_tensors(path, allow_pickle)
        if missing := sorted(names.keys() - found.keys()):
            raise CheckpointError(f"{str(path)!r} has no tensor {missing[0]!r} ({len(missing)} missing); get it again.")
        for name, new in names.items():
            if new in taken:
                raise CheckpointError(f"{str(path)!r} holds {new!r}, which another file has given already.")
            taken[new] = found[name]
    # the widest first: a reader maps a tensor where it lies, which must be a multiple of its item's size
    order = sorted(taken, key=lambda name: (-taken[name].itemsize, name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in order:
        start, end = end, end + taken[name].content.size
        header[name] = {"dtype": taken[name].dtype, "shape": list(taken[name].shape), "data_offsets": [start, end]}
    said = json.dumps(header, separators=(",", ":")).encode()
    said += b" " * (-len(said) % ALIGNMENT)
    head = len(said).to_bytes(8, "little") + said

    def chunks() -> Iterator[bytes]:
        yield head
        for name in order:
            yield from taken[name].content.chunks()

    return Content(len(head) + end, chunks)


def stored_tensors(path: Path, allow_pickle: bool = False) -> dict[str, StoredTensor]:
    """The tensors of a weight file, none of them read yet.

    Args:
        path: a safetensors file, or a pickle.
        allow_pickle: open pickles too, for their tensors alone.

    Raises:
        CheckpointError: missing, damaged, of another kind, or a pickle that nobody allowed.
    """
    if is_pickle(path):
        if not allow_pickle:
            raise CheckpointError(
                f"{str(path)!r} is a PyTorch pickle, which is not opened unasked, for pickles can hold code; "
                "give safetensors weights, or allow it with --allow-pickle (allow_pickle=True)."
            )
        return {name: _of_pickle(path, name, value) for name, value in read_pickle(path).items()}
    header = read_header(path)
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    data = path.stat().st_size - max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    found = {}
    for name, entry in entries.items():
        start, stop = entry["data_offsets"]
        content = _range(path, data + start, stop - start)
        found[name] = StoredTensor(entry["dtype"], tuple(entry["shape"]), content)
    return found


def _of_pickle(path: Path, name: str, tensor: Tensor) -> StoredTensor:
    if tensor.dtype not in _DTYPES:
        raise CheckpointError(f"{str(path)!r} holds {name!r} in {tensor.dtype}, which safetensors files do not have.")

    def chunks() -> Iterator[bytes]:
        flat = tensor.detach().contiguous().view(-1).view(torch.uint8)
        for start in range(0, len(flat), CHUNK):
            yield flat[start : start + CHUNK].numpy().tobytes()

    return StoredTensor(_DTYPES[tensor.dtype], tuple(tensor.shape), Content(tensor.nbytes, chunks))


def _range(path: Path, start: int, size: int) -> Content:
    """`size` bytes of a file from `start` on; a file that became shorter meanwhile raises CheckpointError."""

    def chunks() -> Iterator[bytes]:
        with path.open("rb") as file:
            file.seek(start)
            left = size
            while left:
                chunk = file.read(min(CHUNK, left))
                if not chunk:
                    raise CheckpointError(f"{str(path)!r} became shorter while it was being read; get the file again.")
                left -= len(chunk)
                yield chunk

    return Content(size, chunks)
