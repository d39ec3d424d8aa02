"""Files and folders that appear under their name only when they are complete.

Each is written under a hidden name beside its own (see `hidden`) and then renamed; weights and folders are flushed to
the disk before. A run that is killed in between leaves the older version in place and a hidden leftover, which the next
write that is alone at that name clears away. Where the name is a link, the target of the link is replaced for weights
and folders; any other file takes the link's place.
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
    """Give a hidden temporary name in the folder of `path`; rename it to `path` on a clean exit, else remove it.

    The same folder means the same file system, so that the rename is atomic. Several processes may write one name, so
    nothing is cleared away here; who is alone calls `clear`. What must outlast a power cut is flushed by the caller.
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
    """Give an empty folder to fill, which takes the place of `path` when the block ends without an exception.

    Missing parents are made. On an exception the new folder and the parents made for it are deleted, and an older one
    at `path` stays as it was.
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
    """Flush the complete folder `new` to the disk and move it to `path`, in place of an older folder there.

    Both must be on one file system. No system call swaps full folders everywhere, so the older one steps aside for an
    instant; `recover_folder` and `bring_back` return it after a kill in that instant. Where a reader does so while this
    runs, it steps aside again. Raises InputError when `path` is a file.
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
    """Move `path`, where there is one, to `aside`, and `new` to `path`; False where a reader brought it back."""
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
    """Undo what a killed write left beside `path`: an older folder that had stepped aside returns, unfinished ones go.

    For writers alone: it takes what another one is writing for unfinished. `atomic_folder` begins with it.
    """
    path = real(path)
    for aside in leftovers(path, "old"):
        if path.exists():
            _discard(aside, path)
        else:
            os.replace(aside, path)
    clear(path)


def bring_back(path: str | Path) -> None:
    """Return an older folder that a killed write left aside, where nothing is at `path`; for who reads it.

    Nothing is cleared away, and a write that goes on is not disturbed: see `replace_folder`.
    """
    if is_file(path) or is_dir(path):
        return
    with suppress(OSError, ValueError):  # a writer was faster, the folder is read-only, or no system takes the name
        path = real(path)
        for aside in leftovers(path, "old")[:1]:
            os.replace(aside, path)


def flush(path: Path) -> None:
    """Have the disk hold a file's bytes, or a folder's list of names, before going on."""
    folder = path.is_dir()
    if path.is_symlink() or (folder and os.name != "posix"):  # Windows opens no folders
        return
    handle = os.open(
        path, os.O_RDONLY if os.name == "posix" else os.O_RDWR
    )  # Windows flushes only what it may write to
    try:
        os.fsync(handle)
    except OSError:
        if not folder:  # some network file systems cannot flush a folder, and keep its names safe in their own way
            raise
    finally:
        os.close(handle)


def _refuse_file(path: Path) -> None:
    if os.path.lexists(path) and not is_dir(path):
        raise InputError(f"cannot write a folder to {str(path)!r}: a file has that name; choose another.")


def real(path: str | Path) -> Path:
    """The absolute path behind any links, so that a linked file or folder is replaced, not the link."""
    return Path(os.path.realpath(path))


def clear(path: Path) -> None:
    """Delete what killed writes to `path` left unfinished."""
    for partial in leftovers(path, "partial"):
        if partial.is_dir() and not partial.is_symlink():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


def remove_empty(folders: list[Path]) -> None:
    """Delete folders, inner ones first, up to the first that something is in."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _discard(aside: Path, path: Path) -> None:
    """Delete a folder that stepped aside; renamed first, so that a kill half way leaves nothing that looks complete."""
    partial = unique(path, "partial")
    os.replace(aside, partial)
    shutil.rmtree(partial, ignore_errors=True)
