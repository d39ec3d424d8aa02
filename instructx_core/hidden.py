"""The one scheme of hidden names: whatever is incomplete, replaced or locked has a hidden name beside its own.

`.NAME.KIND`, or `.NAME.TAG.KIND` if there may be several at once:

| kind | what | who clears it away |
|---|---|---|
| partial | unfinished; with a random tag of one write, with a digest of one download, without one what a later run continues | the next write that is alone at NAME |
| old | an older folder, while a new one takes its name | the next write to NAME; it or a reader brings it back if need be |
| windows | finished windows of a long video | its edit, when it is whole |
| lock | one run at a time, see `run_lock` | the run |
"""  # noqa: E501 - a table

from __future__ import annotations

import hashlib
import os
import re
import secrets
from pathlib import Path

from .bounded import is_dir

LONGEST = 180  # bytes of a name that are kept: file systems take 255 with everything around it
_TAG = "[0-9a-f]{12}"
UNFINISHED = re.compile(rf"\..+\.{_TAG}\.partial")  # any name that `unique` gives to what is being written


def hidden(path: Path, kind: str, tag: str = "") -> Path:
    """The hidden name beside `path`, always the same; of a very long name only the beginning and a digest are kept."""
    return path.with_name(".".join(("", _short(path.name), *filter(None, (tag, kind)))))


def unique(path: Path, kind: str) -> Path:
    """A hidden name beside `path` that nothing has yet."""
    return hidden(path, kind, secrets.token_hex(6))


def leftovers(path: Path, kind: str) -> list[Path]:
    """The files under names that `unique` gave for `path`."""
    pattern = re.compile(rf"\.{re.escape(_short(path.name))}\.{_TAG}\.{kind}")
    return [other for other in path.parent.iterdir() if pattern.fullmatch(other.name)] if is_dir(path.parent) else []


def _short(name: str) -> str:
    raw = os.fsencode(name)
    if len(raw) <= LONGEST:
        return name
    return f"{raw[: LONGEST - 13].decode('utf-8', 'ignore')}~{hashlib.sha256(raw).hexdigest()[:12]}"
