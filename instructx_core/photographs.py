"""Photographs from a folder and its subfolders: upright, in sRGB, on white, read like any source."""

from __future__ import annotations

import logging
from functools import cache, lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np

from .bounded import is_dir
from .errors import InputError
from .images import IMAGE_SUFFIXES, open_picture, read_pixels, to_uint8
from .words import quoted_path

logger = logging.getLogger(__name__)


def find_photographs(folder: Path) -> list[Path]:
    """The pictures in a folder and below it, sorted by path, without hidden files.

    Raises:
        InputError: there are none, or no such folder.
    """
    files = folder.rglob("*") if is_dir(folder) else ()
    found = sorted(path for path in files if path.suffix.lower() in IMAGE_SUFFIXES and _is_shown(path, folder))
    if not found:
        kinds = ", ".join(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
        raise InputError(f"{quoted_path(folder)}: there are no pictures; give a folder of photographs ({kinds}).")
    return found


@lru_cache(maxsize=4)
def usable_photographs(folder: str) -> tuple[Path, ...]:
    """The photographs of a folder whose headers can be read; each of the others gives a warning.

    Raises:
        InputError: there are none, or no such folder.
    """
    found = find_photographs(Path(folder))
    usable = tuple(path for path in found if _opens(path))
    if not usable:
        raise InputError(f"{quoted_path(folder)}: none of its {len(found)} pictures can be read; give another folder.")
    return usable


def draw_photograph(rng: np.random.Generator, folder: str) -> np.ndarray:
    """A random photograph of a folder, uint8 [H, W, 3]; a damaged one is replaced by the next.

    Raises:
        InputError: as `usable_photographs`, or all of them are damaged.
    """
    files = usable_photographs(folder)
    first = int(rng.integers(len(files)))
    for path in files[first:] + files[:first]:
        try:
            return to_uint8(read_pixels(path)).numpy()
        except InputError as error:
            _pass_over(str(error))
    raise InputError(f"{quoted_path(folder)}: all of its {len(files)} pictures are damaged; give another folder.")


def photographs_digest(folder: str) -> str:
    """A digest of the names and sizes of a folder's photographs. Raises InputError as `usable_photographs`."""
    told = [f"{path.relative_to(folder)} {path.stat().st_size}" for path in usable_photographs(folder)]
    return sha256("\n".join(told).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _is_shown(path: Path, folder: Path) -> bool:
    """Whether a file was put there by a person: no thumbnail in a hidden folder, no "._name" of macOS."""
    return not any(part.startswith(".") for part in path.relative_to(folder).parts) and path.is_file()


def _opens(path: Path) -> bool:
    try:
        picture = open_picture(path)
    except InputError as error:
        _pass_over(str(error))
        return False
    if picture is None:
        _pass_over(f"{path}: it is not an image that can be read")
        return False
    picture.close()
    return True


@cache
def _pass_over(reason: str) -> None:
    """Warn once per reason."""
    logger.warning("Skipped: %s", reason)
