"""Checks on the paths that a person gives, and output files that appear under their name only when complete."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError


def readable_file(path: str | os.PathLike[str]) -> Path:
    """Return `path` as a Path to a file that exists, holds something and can be read.

    Raises InputError when it is empty, missing, a folder, of length zero or not readable.
    """
    if not os.fspath(path):
        raise InputError("The path of the input file is empty; give the name of an image or video file.")
    found = Path(path)
    if found.is_dir():
        raise InputError(f"{found}: it is a folder; give an image or video file.")
    try:
        with open(found, "rb") as file:
            first = file.read(1)
    except FileNotFoundError as error:
        raise InputError(f"{found}: it does not exist; check the name of the file.") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise InputError(f"{found}: it cannot be read ({_reason(error)}); give an existing file.") from error
    if not first:
        raise InputError(f"{found}: it is empty (0 bytes); give an image or video file.")
    return found


def writable_file(path: str | os.PathLike[str]) -> Path:
    """Return `path` as a Path that a new file can be put at; a file that is there stays as it is.

    Raises InputError when it is a folder, or its folder is missing or cannot be written to.
    """
    target = Path(path)
    if target.is_dir():
        raise InputError(f"{target}: the output is a folder; give the name of a file to write.")
    try:
        # Asking for permissions is not enough: root and read-only mounts answer differently from a real write.
        with tempfile.TemporaryFile(dir=target.parent):
            return target
    except (OSError, ValueError) as error:
        reason = _reason(error)
        raise InputError(
            f"{target}: it cannot be written there ({reason}); give a file in a writable folder."
        ) from error


@contextmanager
def partial_file(path: Path) -> Iterator[Path]:
    """Give a hidden temporary name in the folder of `path`; rename it to `path` on a clean exit, else remove it.

    The same folder means the same file system, so that the rename is atomic. Raises InputError when the system
    refuses to write (full disk, permissions, file too large); any other error passes through.
    """
    partial = path.with_name(f".{path.stem[:40]}.{secrets.token_hex(4)}.partial")
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(
            f"{path}: it could not be written ({_reason(error)}); free space or another folder."
        ) from error
    except BaseException:  # KeyboardInterrupt too: a half-written file must not stay behind
        partial.unlink(missing_ok=True)
        raise


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
