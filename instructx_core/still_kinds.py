"""Stills mistaken for other formats: HEIC and AVIF (like MP4), camera raws (like TIFF or MP4), JPEG XL."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from .bounded import open_regular
from .errors import InputError

if TYPE_CHECKING:
    from PIL import Image

_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1"}
_AVIF = {b"avif", b"avis"}
_JPEG_XL = (b"\x00\x00\x00\x0cJXL ", b"\xff\x0a")
_REDUCED, _DNG_VERSION = 254, 50706  # tags of TIFF
_TO_CONVERT = "convert it to PNG or JPEG first"


@cache
def register_heif() -> bool:
    """Make Pillow read HEIC through pi-heif, if installed (the extra `heif`); return whether it is."""
    try:
        from pi_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def check_kind(path: Path, picture: Image.Image | None) -> None:
    """Refuse a still image that would be read only in part, or mistaken for a video.

    Args:
        path: a file.
        picture: the file opened by Pillow, None if Pillow cannot open it.

    Raises:
        InputError: HEIC, AVIF or JPEG XL without a decoder here; a camera raw, of which Pillow would read only a
            preview; an unreadable file.
    """
    with open_regular(path) as file:
        head = file.read(64)
    if picture is None:
        _check_unread(path, head)
        return
    tags = getattr(picture, "tag_v2", {}) if picture.format == "TIFF" else {}
    if _DNG_VERSION in tags or tags.get(_REDUCED) == 1 or head[8:10] == b"CR":
        raise InputError(
            f"{path}: it is a camera raw file, of which only a preview could be read; develop it to TIFF or PNG."
        )


def _check_unread(path: Path, head: bytes) -> None:
    if len(head) >= 12 and head[4:8] == b"ftyp":
        major, size = head[8:12], min(len(head), int.from_bytes(head[:4], "big"))
        compatible = {head[at : at + 4] for at in range(16, size - 3, 4)}
        if major in _AVIF or (major in _HEIC and compatible & _AVIF):
            raise InputError(f"{path}: it is an AVIF image that cannot be read; {_TO_CONVERT}.")
        if major in _HEIC:
            how = "it is damaged" if register_heif() else f"{_TO_CONVERT}, or run `pip install pi-heif`"
            raise InputError(f"{path}: it is a HEIC image that cannot be read; {how}.")
        if major == b"crx ":
            raise InputError(f"{path}: it is a camera raw file; develop it to TIFF or PNG.")
    if head.startswith(_JPEG_XL):
        raise InputError(f"{path}: it is a JPEG XL image, which cannot be read; {_TO_CONVERT}.")
