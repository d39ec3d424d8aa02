"""One run at a time for an output: a lock that the system itself gives back when a process ends, however it ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .errors import InputError


@contextmanager
def only_run(output: Path) -> Iterator[None]:
    """Hold the lock `.NAME.lock` beside an output file or folder.

    What a killed process leaves is an unlocked file, which the next run takes. Where the file system has no locks
    (some network shares) nothing is held.

    Raises:
        InputError: another run holds it, or the file cannot be made.
    """
    path = output.with_name(f".{output.name}.lock")
    try:
        file = _locked(path)
    except BlockingIOError as error:
        raise InputError(
            f"{output}: another run is writing there; wait for it to end, or give another output."
        ) from error
    except OSError as error:
        raise InputError(f"{output}: it cannot be written there ({error.strerror}); give another folder.") from error
    try:
        yield
    finally:
        if os.name == "posix":  # before the lock is given back: who opens the name later makes a file of its own
            path.unlink(missing_ok=True)
            file.close()
        else:  # Windows deletes no open files; another run may have it by now, and keeps it
            file.close()
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _locked(path: Path) -> IO[bytes]:
    """The file under this name, locked. Raises BlockingIOError where another process (or another open file) has it."""
    while True:
        file = open(path, "ab")  # noqa: SIM115 - open for as long as the lock is held
        try:
            _lock(file)
            # the holder before may have deleted the file between the opening and the locking: then this lock is on a
            # file without a name, which keeps nobody out
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _lock(file: IO[bytes]) -> None:
    """Take the lock of an open file at once, or raise BlockingIOError."""
    if os.name == "posix":
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # no locks on this file system
            return
    else:
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(*error.args) from error
