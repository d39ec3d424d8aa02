"""One run at a time per output: a lock that the system releases when the process ends, however it ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from errno import ENOLCK, ENOSYS, EOPNOTSUPP
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import InputError
from .hidden import hidden


@contextmanager
def only_run(output: Path) -> Iterator[None]:
    """Hold the lock `.NAME.lock` next to an output file or folder.

    A killed process leaves an unlocked file, which the next run reuses. On file systems without locks (some network
    shares) nothing is locked.

    Raises:
        InputError: another run holds it, or the file cannot be created.
    """
    name = hidden(output.absolute(), "lock")  # the current folder has a name only in its absolute path
    if name.is_symlink():  # older versions of filelock truncate its target
        raise InputError(f"{output}: its lock file, {name.name}, is a link; remove it.")
    lock = FileLock(name, timeout=0)
    try:
        held = lock.acquire()
    except Timeout as error:
        raise InputError(
            f"{output}: another run is writing there; wait for it to end, or give another output."
        ) from error
    except OSError as error:
        if error.errno not in (ENOLCK, ENOSYS, EOPNOTSUPP):
            raise InputError(
                f"{output}: it cannot be written there ({error.strerror}); give another folder."
            ) from error
        held = nullcontext()
    with held:
        try:
            yield
        finally:
            if os.name == "posix":  # Windows cannot delete open files; there filelock deletes it after releasing
                # before releasing: a process that has opened it meanwhile finds it gone and creates a new one
                Path(lock.lock_file).unlink(missing_ok=True)
