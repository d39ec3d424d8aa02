"""Locate the files that a row names.

Once links are followed, a row's path must stay inside `data.root` or, without it, the folder of the table (or the one
given as the table): an untrusted table cannot name other files of the machine.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ...bounded import is_file
from ...words import quoted, quoted_path
from .rows import LONGEST_TEXT, RowError


@dataclass(frozen=True)
class Places:
    """Folders to search for files, in this order; nothing outside `root` is found."""

    root: str  # resolved
    folders: tuple[Path, ...]

    def find(self, name: str) -> Path:
        """Find a regular file by name. Raises RowError if there is none."""
        if len(name) > LONGEST_TEXT:
            raise RowError(f"it has a path of more than {LONGEST_TEXT:,} characters")
        missing: Path | None = None
        outside = False
        for folder in self.folders:
            path = folder / name
            try:
                real = os.path.realpath(path)
            except (OSError, ValueError):  # a null byte, or a name too long
                continue
            if not self._holds(real):
                outside = True
            elif is_file(real):
                return path
            else:
                missing = missing or path
        if outside and missing is None:
            raise RowError(
                f"{quoted(name)} is outside of {quoted_path(self.root)}; set data.root to a folder that holds all files"
            )
        raise RowError(f"there is no file {quoted_path(missing or self.folders[0] / name)}")

    def _holds(self, real: str) -> bool:
        return real == self.root or real.startswith(self.root.rstrip(os.sep) + os.sep)


def find_places(table: Path, listing: Path, root: Path | None, under: tuple[str, ...] = ("",)) -> Places:
    """The folders to search for a listing's files.

    Args:
        table: `data.table`: the listing itself, or a folder that contains it.
        root: `data.root`, or else the folder named in a data.txt.
        under: subfolders in which the data set keeps its files.
    """
    folder = listing.parent if table == listing else table
    tops = dict.fromkeys((*([root] if root is not None else []), listing.parent, folder))
    return Places(os.path.realpath(root or folder), tuple(top / name for top in tops for name in under))
