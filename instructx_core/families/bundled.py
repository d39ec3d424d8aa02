"""The models that ship with the package; their names are accepted wherever a model path is."""

from __future__ import annotations

import os
from pathlib import Path

from ..bounded import is_dir, is_file

FOLDER = Path(__file__).parent.parent / "bundled"
NAMES = ("instructx-tiny", "insightedit-tiny")


def located(path: str | Path) -> Path:
    """Resolve a bundled model's name to its folder; any other path is returned unchanged.

    An existing file or folder with that name takes precedence.
    """
    name = os.fspath(path)
    own = name not in NAMES or is_file(Path(path)) or is_dir(Path(path))
    return Path(path) if own else FOLDER / name
