"""Weight files: a file under its final name is complete (`atomic`), and nothing is unpickled.

A file that is not safetensors (a pickle, a GGUF, a git-lfs pointer, a web page) is reported as what it is. A header is
checked against the file's size before any tensor is touched, so a truncated download raises an error that gives both
sizes instead of crashing in the middle of a load.
"""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from .. import bounded
from ..atomic import clear, flush, real
from ..errors import CheckpointError, InputError
from ..hidden import unique
from ..words import listed, one_line, quoted, quoted_path
from .pickles import begins_bare

_NOT_OPENED = (
    "which is opened only on request, as pickles can hold code; get safetensors (`instructx convert --allow-pickle` "
    "makes them from a pickled DiT, VAE or MLLM)"
)
# First bytes of files that are mistaken for safetensors, and what to do with them.
_OTHER_KINDS = (
    (b"version https://git-lfs", "a git-lfs pointer, not the weights themselves; fetch them with `git lfs pull`"),
    (b"PK\x03\x04", f"a PyTorch pickle (.pt, .pth, .bin), {_NOT_OPENED}"),
    (b"GGUF", "a GGUF file; give safetensors weights"),
    (b"<", "a web page (HTML or XML), not weights; the download failed, often because it needs a login"),
    (b"{", "a JSON file, not weights; give the .safetensors file next to it"),
)
_MAX_HEADER = 100_000_000  # bytes; the safetensors format's own limit
MAX_TENSORS = 100_000  # in one file; the largest models in use have a few thousand in a shard
_PLAIN_HEADER = 32 << 20  # bytes; more than any real header has


def write_safetensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write `tensors` (any device, any memory layout) and string `metadata` to one safetensors file, atomically.

    Tensors that share memory (tied weights, slices of one buffer) are stored once per name: the file grows, but any
    reader gets every name back with its values. One writer at a time per path. Raises InputError if the folder is
    missing or the file cannot be written.
    """
    path = real(path)
    if bounded.is_dir(path) or not bounded.is_dir(path.parent):
        reason = "that is a folder" if bounded.is_dir(path) else "its folder does not exist"
        raise InputError(f"cannot write weights to {str(path)!r}: {reason}; give a file name in an existing folder.")
    partial = unique(path, "partial")  # a folder: safetensors makes its own temporary file
    written = partial / path.name
    try:
        clear(path)
        partial.mkdir()
        written.touch()
        mode = written.stat().st_mode
        save_file(_plain(tensors), written, metadata=dict(metadata or {}))
        written.chmod(mode)  # safetensors makes files readable only by their owner
        flush(written)
        os.replace(written, path)
        flush(path.parent)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"cannot write weights to {str(path)!r}: {error}; check permissions and free space."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read all tensors (on the CPU, dtypes as stored) and the metadata of a safetensors file.

    Raises CheckpointError if the file is missing, truncated, damaged, or of another kind, which the error names
    (pickle, GGUF, git-lfs pointer, web page).
    """
    metadata = read_metadata(path)
    return read_tensors(path), metadata


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Only the tensors of `read_safetensors`, for a file whose header has been read already."""
    with _damaged(path):
        return load_file(path)


def read_one_by_one(paths: Iterable[str | Path], progress: Callable[[int], None]) -> dict[str, Tensor]:
    """Read all tensors of several safetensors files, on the CPU, dtypes as stored.

    Tensors are mapped, as in `read_safetensors`, which leaves reading the disk to first use; here each is read into
    the system's cache right away, so that progress can be reported.

    Args:
        paths: the shards of one model.
        progress: called after each tensor with its size in bytes; an exception that it raises ends the reading.

    Raises CheckpointError as read_safetensors does.
    """
    state: dict[str, Tensor] = {}
    for path in paths:
        read_metadata(path)
        with _damaged(path), safe_open(path, framework="pt") as file:
            names = list(file.keys())
            for name in names:
                state[name] = file.get_tensor(name)
                state[name].flatten().view(torch.uint8)[:: mmap.PAGESIZE].sum()  # touches every page
                progress(state[name].nbytes)
    return state


def read_metadata(path: str | Path) -> dict[str, str]:
    """Read the string metadata of a safetensors file from its header, without its tensors ({} if it has none).

    Raises CheckpointError as read_safetensors does.
    """
    return read_header(path).get("__metadata__", {})


def read_shapes(path: str | Path) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a safetensors file's tensors, from its header.

    Raises CheckpointError as read_safetensors does.
    """
    return {name: tuple(entry["shape"]) for name, entry in read_header(path).items() if name != "__metadata__"}


def read_header(path: str | Path) -> dict[str, Any]:
    """The header of a safetensors file, checked against the file's size and by safetensors itself.

    Raises CheckpointError as read_safetensors does.
    """
    path = Path(path)
    if not os.path.lexists(path) and bounded.is_dir(path.parent):
        raise CheckpointError(f"there is no file {quoted_path(path)}; check the path to the weights.")
    try:
        with bounded.open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            header = _read_header(path, file.read(8), file, size)
    except bounded.UnreadableError as error:
        raise CheckpointError(f"cannot read {quoted_path(path)}: {error.reason}; give a .safetensors file.") from error
    except OSError as error:
        raise CheckpointError(f"cannot read {quoted_path(path)}: {error.strerror}; get the file again.") from error
    # checks that tensors follow each other without gaps, each as long as its shape and dtype say; reads none. Not with
    # PyTorch, which maps files as writable: the system refuses that for a file larger than its memory
    with _damaged(path), safe_open(path, framework="np"):
        return header


def read_json(path: Path) -> dict[str, Any]:
    """Read a config file.

    Raises:
        CheckpointError: it is missing or not a JSON mapping.
    """
    try:
        plain = bounded.read_json(path)
    except bounded.UnreadableError as error:
        raise CheckpointError(
            f"{quoted_path(path)} cannot be read ({error.reason}); the model is incomplete, get it again."
        ) from error
    if not isinstance(plain, dict):
        raise CheckpointError(f"{quoted_path(path)} is not a JSON object; get it again.")
    return plain


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Prefix errors about a file's tensors, raised in the block, with the file's name."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{quoted_path(path)} cannot be used: {error}") from error


def check_finite(tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Raise CheckpointError, naming `path` and the tensors, if any floating-point tensor holds NaN or infinity."""
    bad = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not _is_finite(tensor)]
    if bad:
        raise CheckpointError(
            f"{quoted_path(path)} holds NaN or infinity in {len(bad)} tensors ({listed(bad)}); get the file again."
        )


def check_types(whole: Mapping[str, object], path: str | Path) -> None:
    """Raise CheckpointError if a checkpoint has integer tensors, passed as `whole`: name -> dtype."""
    if whole:
        name = min(whole)
        raise CheckpointError(
            f"{quoted_path(path)} holds {quoted(name)} as {whole[name]}, expected floats; get the file again."
        )


@contextmanager
def _damaged(path: str | Path) -> Iterator[None]:
    """Turn errors of the safetensors library in the block into CheckpointErrors that name the file."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{quoted_path(path)} is damaged: {one_line(error, 200)}; get the file again.") from error
    except RuntimeError as error:
        if "unable to mmap" not in str(error):
            raise
        size = Path(path).stat().st_size / 2**30
        raise CheckpointError(
            f"{quoted_path(path)} is one file of {size:.1f} GiB, more than this system can map; give it in shards, or "
            "with fewer bits per weight."
        ) from error


def _read_header(path: Path, start: bytes, file: BinaryIO, size: int) -> dict[str, Any]:
    """The header of an open safetensors file, read and checked against the file's size [bytes]."""
    name = quoted_path(path)
    if size == 0:
        raise CheckpointError(f"{name} is empty; get the file again.")
    length = int.from_bytes(start, "little")
    rest = file.read(min(length, size)) if length <= _MAX_HEADER else file.read(32)
    if not rest.startswith(b"{") or length > _MAX_HEADER:
        beginning = (start + rest).lstrip()
        if begins_bare(beginning):
            raise CheckpointError(f"{name} is a pickle, {_NOT_OPENED}.")
        for magic, kind in _OTHER_KINDS:
            if beginning.startswith(magic):
                raise CheckpointError(f"{name} is {kind}.")
        raise CheckpointError(
            f"{name} is not a safetensors file, or was cut off in its first bytes; get the file again."
        )
    if len(rest) < length:
        raise CheckpointError(f"{name} is truncated: {size} bytes are too few for its own header; get the file again.")
    # counted before parsing: a million entries take gigabytes
    if length > _PLAIN_HEADER:
        raise CheckpointError(
            f"{name} has a header of {length} bytes, more than the {_PLAIN_HEADER} that any model needs; get the file "
            "again."
        )
    if (count := rest.count(b'"data_offsets"')) > MAX_TENSORS:
        raise CheckpointError(f"{name} lists {count} tensors, more than {MAX_TENSORS}; give the weights of one model.")
    try:
        header = bounded.parse_json(rest, name, _PLAIN_HEADER)
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
        if not all(type(end) is int and 0 <= end < 1 << 63 for end in ends):
            raise ValueError("an offset that is none")
        needed = 8 + length + max(ends, default=0)
        if not all(isinstance(text, str) for text in header.get("__metadata__", {}).values()):
            raise TypeError("metadata other than text")
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise CheckpointError(f"{name} has a damaged header; get the file again.") from error
    if size != needed:
        word = "truncated" if size < needed else "damaged"
        raise CheckpointError(
            f"{name} is {word}: it has {size} bytes, but its header describes {needed}; get the file again."
        )
    return header


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as safetensors accepts them: on the CPU, contiguous, no two sharing memory."""
    plain: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
        plain[name] = tensor
    return plain


def _is_finite(tensor: Tensor) -> bool:
    if tensor.itemsize == 1:  # 8-bit floats have no isfinite
        tensor = tensor.to(torch.bfloat16)
    # minimum and maximum propagate NaN; one pass without a copy, as this runs over whole models
    return tensor.numel() == 0 or all(bound.isfinite() for bound in tensor.aminmax())
