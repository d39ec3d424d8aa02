"""A log with one line per case, written by many processes on one machine or on a shared disk.

- A case is claimed with a lock that the system releases when its process ends, however it ends.
- Each line is appended under another lock. A partial line of a killed process is ignored when reading, and the next
  line starts after a newline.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..bounded import is_file, read_bytes, why
from ..errors import InputError
from ..words import quoted_path

logger = logging.getLogger(__name__)
MOST_BYTES = 1 << 30
Check = Callable[[Mapping[str, Mapping[str, Any]]], None]  # of a log's lines by key; raises InputError


class CaseLog:
    """The file `path`, with the locks in `.claims/` next to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.claims = path.parent / ".claims"

    def read(self) -> dict[str, dict[str, Any]]:
        """Key -> its last line. Damaged lines, such as a killed process leaves, are skipped with a warning."""
        lines, torn = self._read()
        if torn:
            logger.warning("%s has damaged lines (%d); their cases are done again.", quoted_path(self.path), torn)
        return lines

    def _read(self) -> tuple[dict[str, dict[str, Any]], int]:
        """Key -> its last line; the number of damaged lines."""
        lines: dict[str, dict[str, Any]] = {}
        torn = 0
        if not is_file(self.path):
            return lines, torn
        for text in read_bytes(self.path, MOST_BYTES).split(b"\n"):  # bytes: a line torn inside a character is no UTF-8
            try:
                line = json.loads(text) if text else {}
            except ValueError:
                torn += 1
                continue
            if isinstance(line, dict) and isinstance(line.get("key"), str):
                lines[line["key"]] = line
            elif text:
                torn += 1
        return lines, torn

    def append(self, line: Mapping[str, Any], check: Check | None = None) -> None:
        """Append a case's line and sync it to disk.

        Args:
            check: called with the lines so far, to which no other process adds until this one is written.

        Raises:
            InputError: it cannot be written; whatever `check` raises.
        """
        text = json.dumps(line, ensure_ascii=False)
        with locked(self.path):
            if check:
                check(self._read()[0])
            try:
                with self.path.open("ab+") as file:
                    if file.tell() and not _ends_a_line(file):
                        file.write(b"\n")
                    file.write(text.encode("utf-8", "backslashreplace") + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise unwritable(self.path, error) from error

    @contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Hold the case `key` exclusively within the block; yield False if another process holds it.

        Raises InputError if it cannot be locked.
        """
        lock = FileLock(self.claims / f"{self.path.stem}-{key}.lock", timeout=0)
        try:
            self.claims.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            yield False
            return
        except OSError as error:
            raise unwritable(self.claims, error) from error
        try:
            yield True
        finally:
            if os.name == "posix":  # removed while the lock is held; see run_lock
                with suppress(OSError):
                    Path(lock.lock_file).unlink()
            lock.release()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for the lock of a run's file, in `.claims/` next to it. Raises InputError if it cannot be locked."""
    lock = FileLock(path.parent / ".claims" / f"{path.name}.lock")
    try:
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield
    finally:
        lock.release()


def unwritable(path: Path, error: OSError) -> InputError:
    """The error for a run's file that cannot be written."""
    return InputError(f"{quoted_path(path)} cannot be written ({why(error)}); free space, or check the permissions.")


def _ends_a_line(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"
