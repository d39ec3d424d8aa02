"""The models that come with the package, by name: taken wherever a model's path is."""

from __future__ import annotations

import os
from pathlib import Path

from ..bounded import is_dir, is_file

FOLDER = Path(__file__).parent.parent / "bundled"
NAMES = ("instructx-tiny", "insightedit-tiny")


def located(path: str | Path) -> Path:
    """The folder of a bundled model where `path` is its name; any other path as it is.

    A file or folder of that name goes first.
    """
    name = os.fspath(path)
    own = name not in NAMES or is_file(Path(path)) or is_dir(Path(path))
    return Path(path) if own else FOLDER / name
