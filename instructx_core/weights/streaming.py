"""Make files from others without loading them: bytes are streamed, tensors renamed.

Peak memory is one chunk, however large the weights; one tensor, if its values change (see `values`). The safetensors
format says where each tensor's bytes are, so renaming and merging shards need only a new header. Values are checked as
they pass: NaN in the weights aborts a conversion.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError
from ..words import quoted
from .files import check_finite, read_header
from .pickles import is_pickle, read_pickle
from .stored import DTYPES, spelled

CHUNK = 16 * 2**20  # bytes read at a time
ALIGNMENT = 8  # bytes; the header is padded with spaces to a multiple, as the safetensors library does

Chunks = Callable[[], Iterator[bytes]]


@dataclass(frozen=True)
class Content:
    """The content of a file to write."""

    size: int  # bytes
    chunks: Chunks  # each call yields all bytes from the start


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: its description in a header, and its bytes."""

    dtype: str  # as safetensors spells it
    shape: tuple[int, ...]
    content: Content

    @property
    def itemsize(self) -> int:
        return self.content.size // max(1, math.prod(self.shape))


def stored_bytes(data: bytes) -> Content:
    """A small file from memory."""
    return Content(len(data), lambda: iter([data]))


def text(value: str) -> Content:
    """A text file."""
    return stored_bytes(value.encode())


def copied(path: Path) -> Content:
    """A copy of a file; the values of a safetensors file are checked on the way."""
    size = path.stat().st_size
    if path.suffix != ".safetensors":
        return _range(path, 0, size)
    header = read_header(path)
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    order = sorted(entries, key=lambda name: entries[name]["data_offsets"])
    held = stored_tensors(path)
    parts = [_range(path, 0, _data_start(path, entries)), *(held[name].content for name in order)]
    return Content(size, lambda: (chunk for part in parts for chunk in part.chunks()))


def taken_tensors(sources: Mapping[Path, Mapping[str, str]]) -> dict[str, StoredTensor]:
    """Tensors of several files under new names.

    Args:
        sources: for each file, the tensors to take -> their new names.

    Raises:
        CheckpointError: as `stored_tensors`, a missing tensor, or two with the same new name.
    """
    taken: dict[str, StoredTensor] = {}
    for path, names in sources.items():
        found = stored_tensors(path)
        if missing := sorted(names.keys() - found.keys()):
            raise CheckpointError(
                f"{str(path)!r} has no tensor {quoted(missing[0])} ({len(missing)} missing); get it again."
            )
        for name, new in names.items():
            if new in taken:
                raise CheckpointError(
                    f"{str(path)!r} holds {quoted(new)}, which the model already has elsewhere; keep one of the two."
                )
            taken[new] = found[name]
    return taken


def tensor_file(taken: Mapping[str, StoredTensor], metadata: Mapping[str, str] | None = None) -> Content:
    """One safetensors file with these tensors.

    Args:
        taken: by their names in the file.
        metadata: of the file.
    """
    # the widest dtype first: a reader maps a tensor at its offset, which must be a multiple of its item size
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
    """The tensors of a weight file, not read yet.

    Args:
        path: a safetensors file, or a pickle.
        allow_pickle: open pickles too, and read only tensors from them.

    Raises:
        CheckpointError: missing, damaged, of another kind, or a pickle without `allow_pickle`; while the bytes are
            read, a tensor that holds NaN or infinity.
    """
    if allow_pickle and is_pickle(path):
        return {
            name: computed(spelled(path, name, value.dtype), tuple(value.shape), lambda value=value: value, path, name)
            for name, value in read_pickle(path).items()
        }
    entries = {name: entry for name, entry in read_header(path).items() if name != "__metadata__"}
    data = _data_start(path, entries)
    found = {}
    for name, entry in entries.items():
        start, stop = entry["data_offsets"]
        content = _finite(_range(path, data + start, stop - start), entry["dtype"], path, name)
        found[name] = StoredTensor(entry["dtype"], tuple(entry["shape"]), content)
    return found


def computed(
    dtype: str, shape: tuple[int, ...], make: Callable[[], torch.Tensor], path: Path, name: str
) -> StoredTensor:
    """A tensor that is computed when its bytes are read.

    Args:
        make: returns it, in this dtype and shape.
        path, name: the source of its values, for errors.
    """

    def chunks() -> Iterator[bytes]:
        flat = make().detach().contiguous().view(-1).view(torch.uint8)
        for start in range(0, len(flat), CHUNK):
            yield flat[start : start + CHUNK].numpy().tobytes()

    content = Content(math.prod(shape) * DTYPES[dtype].itemsize, chunks)
    return StoredTensor(dtype, shape, _finite(content, dtype, path, name))


def _data_start(path: Path, entries: Mapping[str, Any]) -> int:
    """Where the tensors' bytes begin in a safetensors file whose header was checked."""
    return path.stat().st_size - max((entry["data_offsets"][1] for entry in entries.values()), default=0)


def _finite(content: Content, dtype: str, path: Path, name: str) -> Content:
    """The same bytes, as values of this dtype; NaN or infinity raises CheckpointError."""
    kind = DTYPES.get(dtype)
    if kind is None or not kind.is_floating_point:
        return content

    def chunks() -> Iterator[bytes]:
        rest = b""
        for chunk in content.chunks():
            data = rest + chunk
            whole = len(data) - len(data) % kind.itemsize
            rest = data[whole:]
            if whole:
                check_finite({name: torch.frombuffer(bytearray(data[:whole]), dtype=kind)}, path)
            yield chunk

    return Content(content.size, chunks)


def _range(path: Path, start: int, size: int) -> Content:
    """`size` bytes of a file from `start`; raises CheckpointError if the file became shorter meanwhile."""

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
