"""The models that come with the package, by name: taken wherever a model's path is."""

from __future__ import annotations

import os
from pathlib import Path

from ..bounded import is_dir, is_file
from ..errors import CheckpointError

FOLDER = Path(__file__).parent.parent / "bundled"
NAMES = ("instructx-tiny", "insightedit-tiny")
RECIPES = {"insightedit-tiny": "recipes.insightedit_tiny"}  # of those whose weights may be missing


def located(path: str | Path) -> Path:
    """The folder of a bundled model where `path` is its name; any other path as it is.

    A file or folder of that name goes first.

    Raises:
        CheckpointError: a model whose weights are not in this package.
    """
    name = os.fspath(path)
    if name not in NAMES or is_file(Path(path)) or is_dir(Path(path)):
        return Path(path)
    folder = FOLDER / name
    if not is_dir(folder):
        raise CheckpointError(
            f"The weights of {name!r} are not in this package yet; build them with `python -m {RECIPES[name]} train "
            "FOLDER` and give the folder of the model that comes out."
        )
    return folder
