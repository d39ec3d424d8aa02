"""Folders as tests copy and list them."""

from __future__ import annotations

import shutil
from pathlib import Path


def linked(folder: Path, copy: Path) -> Path:
    """A copy of links: a file to change is replaced, not written to."""
    return shutil.copytree(folder, copy, copy_function=lambda source, target: Path(target).symlink_to(source))


def files_of(folder: Path) -> set[str]:
    """All files of a folder, by their names relative to it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
