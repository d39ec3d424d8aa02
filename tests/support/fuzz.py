"""Every fuzzed reader by its kind, and one case of it."""

from __future__ import annotations

from pathlib import Path
from random import Random

from support import fuzz_folders, fuzz_media, fuzz_weights
from support.fuzz_judge import verdict
from support.fuzz_shared import Case, Reader, Shared

READERS: dict[str, Reader] = fuzz_media.READERS | fuzz_weights.READERS | fuzz_folders.READERS


def one(kind: str, seed: int, shared: Shared, folder: Path) -> str | None:
    """The verdict on one case."""
    case = Case(Random(f"{kind}-{seed}"), folder, shared)
    return verdict(READERS[kind](case))
