"""Windows that other edits have left in a folder: what is offered, and what is cleared away."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..run_lock import only_run
from .store import FORMAT, WindowStore, logger

DAYS = 30  # after which nobody is expected to go on
_DAY = 24 * 60 * 60  # seconds


def kept_by_seed(folder: Path, identity: Mapping[str, Any]) -> dict[int, int]:
    """Unfinished edits in `folder` that differ from the one that `identity` describes in nothing but the seed.

    Returns:
        How many windows each has finished, by its seed; without those that have none.
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
    """Delete windows of edits that no run has added to for `DAYS`, and log what went.

    Files of somebody else, edits that are running and `keep`, the output of one that is about to, are left alone.
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
        except (InputError, OSError):  # it is running, or its end took the folder away
            continue
        logger.warning(
            "%s: deleted; its edit was left %d days ago, with %d windows finished.", store.folder, idle, count
        )


def _unfinished(folder: Path) -> Iterator[tuple[Path, WindowStore, dict[str, Any]]]:
    """The output, the windows and the manifest of every unfinished edit in a folder."""
    for path in sorted(folder.glob(".*.windows")):
        output = folder / path.name[1:].removesuffix(".windows")
        store = WindowStore(output)
        try:
            manifest = store.manifest()
        except InputError:  # of somebody else
            continue
        if manifest is not None:
            yield output, store, manifest
