"""A list of checksums as `sha256sum -c` reads it."""

from __future__ import annotations

import hashlib
from pathlib import Path


def check_sums(folder: Path, sums: str) -> set[str]:
    """The names in a list as `sha256sum -c` reads it, each of them right."""
    lines = [line.split("  ", 1) for line in (folder / sums).read_text().splitlines()]
    assert all(hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest for digest, name in lines)
    return {name for _, name in lines}
