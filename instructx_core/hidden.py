"""The scheme of hidden names for incomplete, replaced or locked files, next to the file's own name.

`.NAME.KIND`, or `.NAME.TAG.KIND` if there may be several at once:

| kind | what | who deletes it |
|---|---|---|
| partial | unfinished; TAG is random for a write, a digest for a download, absent if a later run continues it | the next write that has NAME to itself |
| old | an old folder, while a new one takes its name | the next write to NAME; it or a reader brings it back if needed |
| windows | finished windows of a long video | its edit, when complete |
| lock | one run at a time, see `run_lock` | the run |
"""  # noqa: E501 - a table

from __future__ import annotations

import hashlib
import os
import re
import secrets
from pathlib import Path

from .bounded import is_dir

LONGEST = 180  # bytes of a name that are kept: file systems allow 255, including prefix, tag and kind
_TAG = "[0-9a-f]{12}"
UNFINISHED = re.compile(rf"\..+\.{_TAG}\.partial")  # any name that `unique` gives to what is being written


def hidden(path: Path, kind: str, tag: str = "") -> Path:
    """The hidden name next to `path`, always the same; a very long name is cut and gets a digest."""
    return path.with_name(".".join(("", _short(path.name), *filter(None, (tag, kind)))))


def unique(path: Path, kind: str) -> Path:
    """A new, unused hidden name next to `path`."""
    return hidden(path, kind, secrets.token_hex(6))


def leftovers(path: Path, kind: str) -> list[Path]:
    """The existing files and folders with names from `unique` for `path`."""
    pattern = re.compile(rf"\.{re.escape(_short(path.name))}\.{_TAG}\.{kind}")
    return [other for other in path.parent.iterdir() if pattern.fullmatch(other.name)] if is_dir(path.parent) else []


def _short(name: str) -> str:
    raw = os.fsencode(name)
    if len(raw) <= LONGEST:
        return name
    return f"{raw[: LONGEST - 13].decode('utf-8', 'ignore')}~{hashlib.sha256(raw).hexdigest()[:12]}"
