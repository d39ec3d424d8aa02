"""Write large files that appear only when complete, with their SHA-256 sums in the format of `sha256sum -c`."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..atomic import atomic_folder, clear, flush, partial_file, real, remove_empty
from ..bounded import read_text, why
from ..errors import CheckpointError, InputError
from ..hidden import unique
from ..run_lock import only_run
from ..weights.streaming import Content
from ..words import in_bytes, quoted_path

SUMS = "SHA256SUMS"

ByteCount = Callable[[int], None]  # called with the bytes done since the last call
Checksums = dict[str, str]  # file, relative to the folder written -> its SHA-256 in hexadecimal


def write_file(path: Path, content: Content, progress: ByteCount) -> Checksums:
    """Write one file, and its checksum next to it as `NAME.sha256`.

    Raises:
        CheckpointError: from the content.
        InputError: another run is writing there, or the file cannot be written. Nothing is left after any error.
    """
    _check_name(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file to write.")
    path = real(path)
    with _alone(path, content.size):
        with partial_file(path) as partial:
            digest = _write(partial, content, progress)
            flush(partial)
        with partial_file(path.with_name(f"{path.name}.sha256")) as sums:
            sums.write_bytes(os.fsencode(_line(path.name, digest)))  # the name as in the file system, UTF-8 or not
    return {path.name: digest}


def write_folder(path: Path, contents: Mapping[str, Content], progress: ByteCount) -> Checksums:
    """Write a folder of files with their checksums as SHA256SUMS; it replaces an older one once complete.

    Args:
        path: of the folder.
        contents: of its files, by their names relative to it.
        progress: called with the number of bytes just written.

    Raises:
        CheckpointError, InputError: as in `write_file`; also an existing folder that holds files not written this way.
    """
    _check_name(path)
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; give another name for the folder to write.")
    if foreign := _files(path) - _listed(path / SUMS) - {SUMS}:
        raise InputError(
            f"{path} holds {min(foreign)}, which was not written by a conversion and would be lost; give a new name, "
            "or empty the folder."
        )
    path = real(path)
    size = sum(content.size for content in contents.values())
    with _alone(path, size), atomic_folder(path) as partial:
        sums = {name: _write(partial / name, content, progress) for name, content in contents.items()}
        (partial / SUMS).write_text("".join(_line(name, sums[name]) for name in sorted(sums)), encoding="utf-8")
    return sums


def counted(progress: Callable[[int, int], None] | None, total: int) -> ByteCount:
    """A callback that adds up bytes and calls `progress` with (bytes done, total bytes)."""
    done = 0

    def count(piece: int) -> None:
        nonlocal done
        done += piece
        if progress is not None:
            progress(done, total)

    return count


def _check_name(path: Path) -> None:
    """Raise InputError if the system accepts no file of this name, or of the longer name of its partial file."""
    for name in (path, unique(path, "partial")):
        try:
            name.lstat()
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise InputError(f"{quoted_path(path)} cannot be written: {why(error)}; give another name.") from error


@contextmanager
def _alone(path: Path, size: int) -> Iterator[None]:
    """Hold `path` for this run while `size` bytes are written to it, after clearing what a killed run left there.

    Raises InputError if another run is writing there or the system refuses; parents created for it are then removed.
    """
    made = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with only_run(path):
            clear(path)
            if (free := shutil.disk_usage(path.parent).free) < size:
                raise InputError(
                    f"{path} needs {in_bytes(size)}, but only {in_bytes(free)} are free; free some space, or give "
                    "another folder."
                )
            yield
    except BaseException as error:
        remove_empty(made)
        if not isinstance(error, OSError):
            raise
        raise InputError(
            f"{path} could not be written ({error.strerror}); free some space, or give another folder."
        ) from error


def _write(path: Path, content: Content, progress: ByteCount) -> str:
    """Write a new file and return its SHA-256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with path.open("xb") as file:
        for chunk in content.chunks():
            digest.update(chunk)
            file.write(chunk)
            progress(len(chunk))
        if file.tell() != content.size:
            raise CheckpointError(
                f"{str(path)!r} got {file.tell()} of {content.size} bytes: its source does not match its header; get "
                "the source again."
            )
    return digest.hexdigest()


def _files(path: Path) -> set[str]:
    """All files in a folder, by their names relative to it."""
    return {found.relative_to(path).as_posix() for found in path.rglob("*") if found.is_file()}


def _listed(sums: Path) -> set[str]:
    """The files that a list of checksums names; none if there is no list."""
    lines = read_text(sums).splitlines() if sums.is_file() else []
    return {name for _, _, name in (line.partition("  ") for line in lines)}


def _line(name: str, digest: str) -> str:
    return f"{digest}  {name}\n"
