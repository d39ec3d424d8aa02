"""Atomic writes: files and folders appear under their name only when they are complete.

Each is written under a hidden name next to its own (see `hidden`) and then renamed; weights and folders are flushed to
disk first. A run killed in between leaves the old version in place and a hidden leftover, which the next write that has
the name to itself deletes. If the name is a symlink, weights and folders replace its target; any other file replaces
the link.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .bounded import is_dir, is_file, why
from .errors import InputError
from .hidden import leftovers, unique
from .words import PATH, escaped


@contextmanager
def partial_file(path: Path) -> Iterator[Path]:
    """Yield a hidden temporary name in the folder of `path`; rename it to `path` on a clean exit, else delete it.

    The same folder means the same file system, so the rename is atomic. Several processes may write the same name, so
    leftovers are not deleted here; a sole writer calls `clear`. The caller flushes what must survive a power cut.
    Raises InputError when the system refuses to write (full disk, permissions, file too large); any other error passes
    through.
    """
    partial = unique(path, "partial")
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(
            f"{escaped(path, PATH)}: it could not be written ({why(error)}); free space, or give another folder."
        ) from error
    except BaseException:  # KeyboardInterrupt too: a half-written file must not remain
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder to fill, which replaces `path` when the block ends without an exception.

    Missing parents are created. On an exception the new folder and these parents are deleted, and an existing folder at
    `path` is left as it was.
    One writer at a time per path: a second one makes the first fail. Raises InputError when `path` is a file or
    cannot be written to.
    """
    path = real(path)
    _refuse_file(path)
    partial = unique(path, "partial")
    made: list[Path] = []
    try:
        made = [parent for parent in path.parents if not parent.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        recover_folder(path)
        partial.mkdir()
    except OSError as error:
        remove_empty(made)
        raise InputError(f"cannot write a folder to {str(path)!r}: {error.strerror}; choose another place.") from error
    try:
        yield partial
        replace_folder(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        remove_empty(made)
        raise


def replace_folder(new: str | Path, path: str | Path) -> None:
    """Flush the complete folder `new` to disk and move it to `path`, replacing an existing folder.

    Both must be on the same file system. No portable system call swaps two non-empty folders, so the old one is moved
    aside for an instant; after a kill in that instant `recover_folder` or `bring_back` returns it. If a reader does so
    while this runs, it is moved aside again. Raises InputError when `path` is a file.
    """
    new, path = Path(new), real(path)
    _refuse_file(path)
    for folder, _, files in os.walk(new):
        for name in (*files, "."):
            flush(Path(folder, name))
    aside = unique(path, "old")
    while not _exchange(new, path, aside):
        pass
    flush(path.parent)
    if aside.exists():
        _discard(aside, path)


def _exchange(new: Path, path: Path, aside: Path) -> bool:
    """Move `path`, if it exists, to `aside`, then `new` to `path`; False if a reader brought the old one back."""
    replaces = path.exists()
    if replaces:
        os.replace(path, aside)
    try:
        os.replace(new, path)
    except BaseException as error:
        if replaces and not aside.exists() and isinstance(error, OSError):
            return False
        if replaces and aside.exists():
            os.replace(aside, path)
        raise
    return True


def recover_folder(path: str | Path) -> None:
    """Clean up after a killed write to `path`: return the old folder that was moved aside, delete unfinished ones.

    Only for writers: it would delete what another process is still writing. `atomic_folder` calls it first.
    """
    path = real(path)
    for aside in leftovers(path, "old"):
        if path.exists():
            _discard(aside, path)
        else:
            os.replace(aside, path)
    clear(path)


def bring_back(path: str | Path) -> None:
    """If nothing is at `path`, return the old folder that a killed write left aside; for readers.

    Nothing is deleted, and a write in progress is not disturbed: see `replace_folder`.
    """
    if is_file(path) or is_dir(path):
        return
    with suppress(OSError, ValueError):  # a writer was faster, the folder is read-only, or the name is invalid
        path = real(path)
        for aside in leftovers(path, "old")[:1]:
            os.replace(aside, path)


def flush(path: Path) -> None:
    """Flush a file's bytes, or a folder's entries, to disk."""
    folder = path.is_dir()
    if path.is_symlink() or (folder and os.name != "posix"):  # Windows cannot open folders
        return
    handle = os.open(
        path, os.O_RDONLY if os.name == "posix" else os.O_RDWR
    )  # Windows flushes only files opened for writing
    try:
        os.fsync(handle)
    except OSError:
        if not folder:  # some network file systems cannot flush a folder and make its entries durable themselves
            raise
    finally:
        os.close(handle)


def _refuse_file(path: Path) -> None:
    if os.path.lexists(path) and not is_dir(path):
        raise InputError(f"cannot write a folder to {str(path)!r}: a file has that name; choose another.")


def real(path: str | Path) -> Path:
    """The absolute path with links resolved, so that a linked file or folder is replaced, not the link."""
    return Path(os.path.realpath(path))


def clear(path: Path) -> None:
    """Delete the unfinished files and folders that killed writes to `path` left."""
    for partial in leftovers(path, "partial"):
        if partial.is_dir() and not partial.is_symlink():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


def remove_empty(folders: list[Path]) -> None:
    """Delete empty folders, in order (inner ones first), stopping at the first that is not empty."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _discard(aside: Path, path: Path) -> None:
    """Delete a folder that was moved aside; renamed first, so that a kill midway leaves nothing that looks complete."""
    partial = unique(path, "partial")
    os.replace(aside, partial)
    shutil.rmtree(partial, ignore_errors=True)
