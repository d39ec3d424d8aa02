"""Safetensors files made out of others without loading them: tensors are copied as bytes, under other names.

Peak memory is one copy buffer, whatever the weights weigh. The format says where each tensor's bytes lie, so renaming
and merging shards need a new header and nothing else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import CheckpointError
from ..paths import partial_file
from .files import read_header

CHUNK = 16 * 2**20  # bytes copied at a time
ALIGNMENT = 8  # bytes; the header is filled up with spaces to a multiple, as the safetensors library does

Progress = Callable[[int], None]  # bytes that were copied since the last call


@dataclass(frozen=True)
class _Piece:
    """One tensor's bytes in one of the sources."""

    name: str
    path: Path
    start: int
    size: int
    dtype: str
    shape: list[int]

    @property
    def itemsize(self) -> int:
        return self.size // max(1, math.prod(self.shape))


def copy_tensors(
    path: str | Path,
    sources: Mapping[Path, Mapping[str, str]],
    metadata: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> None:
    """Write one safetensors file of tensors that lie in others; it appears under its name when complete.

    Args:
        path: the file to write.
        sources: for each file, which of its tensors are taken and what they are called in the new one.
        metadata: of the new file.
        progress: called after each piece with its bytes; what it raises ends the copying and leaves no file.

    Raises:
        CheckpointError: a source that is missing, damaged or no safetensors, lacks a tensor, or two tensors that would
            have one name.
        InputError: the file cannot be written.
    """
    path = Path(path)
    pieces = [piece for source, names in sources.items() for piece in _pieces(Path(source), names)]
    # the widest first: a reader maps a tensor where it lies, which must be a multiple of its item's size
    pieces.sort(key=lambda piece: (-piece.itemsize, piece.name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for piece in pieces:
        if piece.name in header:
            raise CheckpointError(f"{str(piece.path)!r} holds {piece.name!r}, which another file has given already.")
        header[piece.name] = {"dtype": piece.dtype, "shape": piece.shape, "data_offsets": [end, end + piece.size]}
        end += piece.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with partial_file(path) as partial, partial.open("wb") as target:
        target.write(len(text).to_bytes(8, "little") + text)
        for piece in pieces:
            with piece.path.open("rb") as source:
                source.seek(piece.start)
                copy_bytes(source, target, piece.size, progress)


def copy_file(source: Path, target: Path, progress: Progress | None = None) -> None:
    """Copy a whole file, as `copy_tensors` copies tensors.

    Raises:
        InputError: the file cannot be written.
    """
    with partial_file(target) as partial, source.open("rb") as read, partial.open("wb") as written:
        copy_bytes(read, written, source.stat().st_size, progress)


def copy_bytes(source: BinaryIO, target: BinaryIO, size: int, progress: Progress | None = None) -> None:
    """Copy `size` bytes from where `source` stands.

    Raises:
        CheckpointError: the source ends before.
    """
    while size:
        chunk = source.read(min(CHUNK, size))
        if not chunk:
            raise CheckpointError(f"{source.name!r} became shorter while it was being read; get the file again.")
        target.write(chunk)
        size -= len(chunk)
        if progress is not None:
            progress(len(chunk))


def _pieces(path: Path, names: Mapping[str, str]) -> list[_Piece]:
    header = read_header(path)
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    missing = sorted(names.keys() - entries.keys())
    if missing:
        raise CheckpointError(f"{str(path)!r} has no tensor {missing[0]!r} ({len(missing)} missing); get it again.")
    data = path.stat().st_size - max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    pieces = []
    for name, new in names.items():
        start, stop = entries[name]["data_offsets"]
        pieces.append(_Piece(new, path, data + start, stop - start, entries[name]["dtype"], entries[name]["shape"]))
    return pieces
