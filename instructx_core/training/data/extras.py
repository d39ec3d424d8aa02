"""The libraries of the extra `data`, imported only when a data set needs them."""

from __future__ import annotations

import tempfile
from functools import cache
from importlib import import_module
from typing import Any

from ...errors import InputError
from ...words import one_line


class LibraryMissingError(InputError):
    """A library needed to read a file is not installed."""


def library(module: str, what: str) -> Any:
    """Import a module of the extra. Raises LibraryMissingError, which says what needs it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise LibraryMissingError(
            f"{what} need the package {module.split('.', maxsplit=1)[0]!r}, which cannot be imported "
            f"({one_line(error, 100)}); run `pip install datasets webdataset`."
        ) from error


@cache
def scratch() -> tempfile.TemporaryDirectory[str]:
    """A temporary folder for the lock files of `datasets`, removed at exit."""
    return tempfile.TemporaryDirectory(prefix="instructx-")
