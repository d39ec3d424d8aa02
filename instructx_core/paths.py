"""Checks on the paths that a user gives."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from .bounded import UnreadableError, is_dir, open_regular, why
from .errors import InputError
from .words import PATH, escaped, quoted_path, shown


def as_path(value: object, name: str) -> Path:
    """`value` as a Path; raises InputError, which calls it `name`, if it is not a path."""
    try:
        return Path(os.fspath(value))  # type: ignore[call-overload]
    except TypeError as error:  # bytes too: a Path is text
        raise InputError(f"{name} is {shown(value)}; give a path.") from error


def readable_file(path: str | os.PathLike[str]) -> Path:
    """Return `path` as a Path to an existing, non-empty, readable regular file.

    Raises InputError if it is not a path, an empty string, missing, a folder, a FIFO or device, an empty file or not
    readable.
    """
    found = as_path(path, "The input file")
    if not os.fspath(path):
        raise InputError("The path of the input file is empty; give the name of an image or video file.")
    try:
        with open_regular(found) as file:
            first = file.read(1)
    except UnreadableError as error:
        reason = error.reason if error.reason.startswith("it ") else f"it cannot be read ({error.reason})"
        advice = "check the name of the file" if reason == "it does not exist" else "give an image or video file"
        raise InputError(f"{_named(found)}: {reason}; {advice}.") from error
    except OSError as error:
        raise InputError(f"{_named(found)}: it cannot be read ({why(error)}); give an existing file.") from error
    if not first:
        raise InputError(f"{_named(found)}: it is empty (0 bytes); give an image or video file.")
    return found


def writable_file(path: str | os.PathLike[str]) -> Path:
    """Return `path` as a Path that a file can be written to; an existing file is left alone.

    Raises InputError if it is not a path, a folder, a device, an invalid name, or if its folder is missing or cannot be
    written to.
    """
    target = as_path(path, "The output file")
    if is_dir(target):
        raise InputError(f"{_named(target)}: the output is a folder; give the name of a file to write.")
    try:
        mode = target.stat().st_mode  # finds a name that is too long before the work, not after
    except FileNotFoundError:
        mode = stat.S_IFREG
    except (OSError, ValueError) as error:
        raise InputError(f"{_named(target)}: it cannot be written there ({why(error)}); give another name.") from error
    if not stat.S_ISREG(mode):  # a device or FIFO would be replaced by a file
        raise InputError(f"{_named(target)}: it is not a regular file; give the name of a file to write.")
    try:
        # Checking permissions is not enough: for root and on read-only mounts they differ from a real write.
        with tempfile.TemporaryFile(dir=target.parent):
            return target
    except (OSError, ValueError) as error:
        raise InputError(
            f"{_named(target)}: it cannot be written there ({why(error)}); give a file in a writable folder."
        ) from error


def check_folder(path: Path, name: str) -> None:
    """Raise InputError, which calls it `name`, if `path` is a file or no folder can have that name."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):  # the latter is told when the folder is made
        return
    except (OSError, ValueError) as error:
        raise InputError(f"{name} {quoted_path(path)} cannot be used: {why(error)}; name another folder.") from error
    if not stat.S_ISDIR(mode):
        raise InputError(f"{name} {quoted_path(path)} is a file; name a folder.")


def _named(path: Path) -> str:
    return escaped(path, PATH)
