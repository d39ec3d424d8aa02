"""A log with one line per case, written by many processes on one machine or on a shared disk.

- A case is claimed with a lock that the system releases when its process ends, however it ends.
- Each line is appended under another lock. A partial line of a killed process is ignored when reading, and the next
  line starts after a newline.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..bounded import is_file, read_bytes, why
from ..errors import InputError
from ..words import quoted_path

logger = logging.getLogger(__name__)
MOST_BYTES = 1 << 30


class CaseLog:
    """The file `path`, with the locks in `.claims/` next to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.claims = path.parent / ".claims"

    def read(self) -> dict[str, dict[str, Any]]:
        """Key -> its last line. Damaged lines, such as a killed process leaves, are skipped with a warning."""
        if not is_file(self.path):
            return {}
        lines: dict[str, dict[str, Any]] = {}
        torn = 0
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
        if torn:
            logger.warning("%s has damaged lines (%d); their cases are done again.", quoted_path(self.path), torn)
        return lines

    def append(self, line: Mapping[str, Any]) -> None:
        """Append a case's line and sync it to disk. Raises InputError if it cannot be written."""
        text = json.dumps(line, ensure_ascii=False)
        try:
            self.claims.mkdir(parents=True, exist_ok=True)
            with FileLock(self.claims / f"{self.path.name}.lock"), self.path.open("ab+") as file:
                if file.tell() and not _ends_a_line(file):
                    file.write(b"\n")
                file.write(text.encode("utf-8", "backslashreplace") + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(self.path, error) from error

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
            raise _unwritable(self.claims, error) from error
        try:
            yield True
        finally:
            if os.name == "posix":  # removed while the lock is held; see run_lock
                with suppress(OSError):
                    Path(lock.lock_file).unlink()
            lock.release()


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"{quoted_path(path)} cannot be written ({why(error)}); free space, or check the permissions.")


def _ends_a_line(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"
