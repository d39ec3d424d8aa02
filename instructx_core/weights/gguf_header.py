"""Check a GGUF file's header before the package `gguf` reads it.

`GGUFReader` trusts every count: a file of 70 bytes that claims an array of 10^12 entries keeps it busy until memory
is full. Here each count is checked against the bytes left, so that any file is read in reasonable time.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..bounded import UnreadableError, open_regular
from ..errors import CheckpointError
from ..words import quoted, quoted_path

if TYPE_CHECKING:
    from gguf import GGUFReader

GGUF_MAGIC = b"GGUF"
MAX_TENSORS = 100_000
MAX_VALUES = 2_000_000  # in all arrays of the header; a tokenizer of 256,000 words has 1.3 million
MAX_NAME = 1 << 16  # bytes
ARRAYS = 4  # nesting depth
# the format's value types (ggml's gguf.h): number -> bytes
_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9
_SHAPES = "comfy.gguf.orig_shape."  # prefix of a tensor's name: its shape before it was reshaped


def is_gguf(path: str | Path) -> bool:
    """Whether a file begins like a GGUF; False if it cannot be read."""
    try:
        with open_regular(path) as file:
            return file.read(len(GGUF_MAGIC)) == GGUF_MAGIC
    except (UnreadableError, OSError):
        return False


def open_gguf(path: Path) -> GGUFReader:
    """Open a GGUF file: the header is read, the tensors are mapped.

    Raises:
        CheckpointError: the package `gguf` is missing, or the file is truncated, damaged or claims more than it holds.
    """
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise CheckpointError(
            f"{quoted_path(path)} is a GGUF file, which needs the package gguf; install it with `pip install gguf`."
        ) from error
    _check(path)
    try:
        return GGUFReader(path)
    except Exception as error:  # it checks little: a truncated file may raise any numpy error
        raise CheckpointError(
            f"{quoted_path(path)} is a GGUF file that is truncated or damaged; get it again."
        ) from error


def original_shapes(reader: GGUFReader, path: Path) -> dict[str, tuple[int, ...]]:
    """The original shapes of tensors that were stored reshaped, as ComfyUI-GGUF's converter records them.

    GGUF allows at most four dimensions, and packs blocks along the last; tensors that do not fit are flattened.

    Raises CheckpointError if a shape does not have as many values as its tensor.
    """
    shapes = {}
    for tensor in reader.tensors:
        field = reader.get_field(_SHAPES + tensor.name)
        if field is None:
            continue
        try:
            shape = tuple(int(field.parts[index][0]) for index in field.data[:16])
        except (ValueError, OverflowError, IndexError):  # floats, strings
            shape = ()
        if not shape or min(shape) < 0 or math.prod(shape) != int(tensor.n_elements):
            raise CheckpointError(
                f"{quoted_path(path)} says that {quoted(tensor.name)} has the shape {shape}, but holds "
                f"{int(tensor.n_elements)} values; get it again."
            )
        shapes[tensor.name] = shape
    return shapes


def _check(path: Path) -> None:
    """Raise CheckpointError if a header claims more than its file can hold."""
    try:
        with open_regular(path) as file:
            _Scan(file).run()
    except UnreadableError as error:
        raise CheckpointError(str(error)) from error
    except (ValueError, OSError, struct.error) as error:
        raise CheckpointError(
            f"{quoted_path(path)} is a GGUF file that is truncated or damaged ({error}); get it again."
        ) from error


class _Scan:
    """One pass over a header that stores nothing; raises ValueError if the header cannot be valid."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.left = file.seek(0, 2) - file.seek(0)
        self.values = 0
        self.order = "<"

    def run(self) -> None:
        self.skip(len(GGUF_MAGIC))
        version = self.bytes(4)
        if int.from_bytes(version, "little") & 0xFFFF == 0:  # a big-endian file
            self.order = ">"
        tensors, fields = self.number("Q"), self.number("Q")
        self.check("tensors", tensors, 8 + 4 + 4 + 8, MAX_TENSORS)
        self.check("settings", fields, 8 + 4 + 1, MAX_TENSORS)
        for _ in range(fields):
            self.text(MAX_NAME)
            self.value(self.number("I"))
        for _ in range(tensors):
            self.text(MAX_NAME)
            dimensions = self.number("I")
            if dimensions > 8:
                raise ValueError(f"it has a tensor of {dimensions} dimensions")
            self.skip(8 * dimensions + 4 + 8)

    def value(self, kind: int, arrays: int = 0) -> None:
        if kind in _SCALARS:
            self.skip(_SCALARS[kind])
        elif kind == _STRING:
            self.text(self.left)
        elif kind == _ARRAY and arrays < ARRAYS:
            inner, count = self.number("I"), self.number("Q")
            size = _SCALARS.get(inner)
            self.check("entries of an array", count, size or 8, MAX_VALUES - self.values)
            self.values += count
            if size:
                self.skip(size * count)
            else:
                for _ in range(count):
                    self.value(inner, arrays + 1)
        else:
            raise ValueError(f"it has a setting of type {kind}")

    def check(self, what: str, count: int, size: int, most: int) -> None:
        if count * size > self.left:
            raise ValueError(f"it claims to hold {count} {what} in {self.left} bytes")
        if count > most:
            raise ValueError(f"it has {count} {what}, expected at most {most}")

    def text(self, most: int) -> None:
        length = self.number("Q")
        if length > min(most, self.left):
            raise ValueError(f"it claims to hold a string of {length} bytes")
        self.skip(length)

    def number(self, kind: str) -> int:
        return struct.unpack(self.order + kind, self.bytes(struct.calcsize(kind)))[0]

    def bytes(self, count: int) -> bytes:
        self.left -= count
        content = self.file.read(count) if self.left >= 0 else b""
        if len(content) < count:
            raise ValueError("it ends within its header")
        return content

    def skip(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise ValueError("it ends within its header")
        self.file.seek(count, 1)
