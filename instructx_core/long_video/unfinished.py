"""Windows of unfinished edits in a folder: find those that can be resumed, delete those that were abandoned."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..run_lock import only_run
from .store import FORMAT, WindowStore, logger

DAYS = 30  # without progress, after which an edit counts as abandoned
_DAY = 24 * 60 * 60  # seconds


def kept_by_seed(folder: Path, identity: Mapping[str, Any]) -> dict[int, int]:
    """Find unfinished edits in `folder` that differ from the one that `identity` describes only in the seed.

    Returns:
        seed -> number of finished windows, where there are any.
    """
    wanted = {"format": FORMAT, **identity}
    found: dict[int, int] = {}
    for _, store, kept in _unfinished(folder):
        if not isinstance(kept.get("seed"), int) or kept["seed"] == wanted.get("seed"):
            continue
        if {**kept, "seed": None} == {**wanted, "seed": None} and store.count():
            found[kept["seed"]] = store.count()
    return found


def drop_abandoned(folder: Path, keep: Path) -> None:
    """Delete and log the windows of edits without progress for `DAYS`.

    Foreign files, running edits and the edit with output `keep`, which is about to run, are left alone.
    """
    for output, store, _ in _unfinished(folder):
        if output == keep:
            continue
        try:
            with only_run(output):
                newest = max(path.lstat().st_mtime for path in (store.folder, *store.folder.iterdir()))
                idle = (time.time() - newest) / _DAY
                if idle < DAYS:
                    continue
                count = store.count()
                store.remove()
        except (InputError, OSError):  # it is running, or has just removed its folder
            continue
        logger.warning(
            "%s: deleted; its edit was abandoned %d days ago with %d finished windows.", store.folder, idle, count
        )


def _unfinished(folder: Path) -> Iterator[tuple[Path, WindowStore, dict[str, Any]]]:
    """Yield the output, the window store and the manifest of each unfinished edit in a folder."""
    for path in sorted(folder.glob(".*.windows")):
        output = folder / path.name[1:].removesuffix(".windows")
        store = WindowStore(output)
        try:
            manifest = store.manifest()
        except InputError:  # foreign files
            continue
        if manifest is not None:
            yield output, store, manifest
