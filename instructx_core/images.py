"""Still images: any picture that Pillow opens <-> float RGB tensors.

Decisions:
- Pixels come out upright (EXIF orientation applied) as sRGB: an embedded profile of another kind (Display P3, CMYK) is
  converted, because the written file carries no profile and would show other colours.
- Alpha is composited on white, the paper that most transparent pictures are drawn for.
- 16-bit grey is scaled by 65535, not clipped to 8 bits as Pillow's own conversion does.
- GIF, WebP, PNG and AVIF files with more than one frame are animations; `video.VideoReader` reads all of their frames,
  `read_image` the first. A PIL image object is one picture: the frame that it stands at.
"""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .errors import InputError
from .paths import partial_file, readable_file

if TYPE_CHECKING:
    from PIL import Image

# What a reader may be handed; other plugins of Pillow (MPEG, EPS, ...) open files that are not pictures to edit.
_STILL_FORMATS = {"PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "HEIF", "JPEG2000", "ICO"}
_ANIMATED_FORMATS = {"GIF", "WEBP", "PNG", "AVIF"}  # not MPO, TIFF: their further pages are other pictures
_SAVE_OPTIONS: dict[str, tuple[str, dict[str, object]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"quality": 95}),
    ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
}
IMAGE_SUFFIXES = tuple(_SAVE_OPTIONS)
RANGE_SLACK = 1e-4  # how far resampling or rounding may leave [0, 1] before it counts as another range


def open_picture(path: Path) -> Image.Image | None:
    """Open an image file (its header only), or return None when it is none; the caller closes it.

    Raises InputError when Pillow refuses the size of the picture.
    """
    from PIL import Image

    Image.init()
    try:
        picture = Image.open(path, formats=sorted(_STILL_FORMATS & Image.OPEN.keys()))
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: it is too large to open as an image ({error}); scale it down.") from error
    except (OSError, SyntaxError, ValueError, struct.error):
        return None
    return picture


def is_animated(picture: Image.Image) -> bool:
    """Whether an opened image file holds frames that follow each other in time."""
    return picture.format in _ANIMATED_FORMATS and bool(getattr(picture, "is_animated", False))


def read_image(value: str | os.PathLike[str] | Image.Image, name: str = "image") -> Tensor:
    """Read one picture as float32 [H, W, 3] in [0, 1].

    value: a path or a PIL image; name: what error messages call a PIL image (a file is called by its path).
    Raises InputError when the file is missing, is not an image, is damaged, or holds numbers outside of its range.
    """
    from PIL import Image

    if isinstance(value, Image.Image):
        return _to_rgb(value, name)
    path = readable_file(value)
    picture = open_picture(path)
    if picture is None:
        raise InputError(f"{path}: it is not an image that can be read; give a PNG, JPEG, WebP, GIF, TIFF or BMP file.")
    with picture:
        return _to_rgb(picture, str(path))


def write_image(pixels: Tensor, path: Path) -> None:
    """Write float [H, W, 3] in [0, 1] as an 8-bit image; the suffix of `path` (IMAGE_SUFFIXES) gives the format.

    Raises InputError when the format cannot hold the picture or the file cannot be written.
    """
    from PIL import Image

    kind, options = _SAVE_OPTIONS[path.suffix.lower()]
    picture = Image.fromarray(to_uint8(pixels).numpy())
    with partial_file(path) as partial:
        try:
            picture.save(partial, format=kind, **options)
        except (ValueError, SystemError) as error:
            size = f"{picture.width} x {picture.height}"
            raise InputError(f"{path}: its format cannot hold a picture of {size} ({error}); write a PNG.") from error


def to_uint8(pixels: Tensor) -> Tensor:
    """Float pixels in [0, 1] of any shape -> uint8 on the CPU, rounded to the nearest."""
    return (pixels.detach().float().clamp(0, 1) * 255).round().to("cpu", torch.uint8)


def check_range(values: Tensor, name: str) -> Tensor:
    """Return float `values` clamped to [0, 1] if they lie there, up to RANGE_SLACK.

    Raises InputError naming `name`, the offending number and its index.
    """
    wrong = ~((values >= -RANGE_SLACK) & (values <= 1 + RANGE_SLACK))  # NaN compares false, so it is wrong as well
    if wrong.any():
        index = tuple(wrong.nonzero()[0].tolist())
        raise InputError(
            f"{name}: it holds {values[index].item():g} at index {list(index)} ({int(wrong.sum())} such values of "
            f"{values.numel()}); give finite floats in [0, 1], or uint8."
        )
    return values.clamp(0, 1)


def _to_rgb(picture: Image.Image, name: str) -> Tensor:
    """PIL image -> float32 [H, W, 3] in [0, 1], upright, sRGB, on white."""
    from PIL import Image, ImageOps

    try:
        picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith(("I", "F")):
            grey = _deep_grey(np.asarray(picture), picture.mode, name)
            return grey[..., None].expand(-1, -1, 3).contiguous()
        rgb = _to_srgb(picture)
        if picture.has_transparency_data:
            alpha = picture.convert("RGBA").getchannel("A")
            rgb = Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: it is too large to open as an image ({error}); scale it down.") from error
    except (OSError, SyntaxError, EOFError, struct.error) as error:
        raise InputError(f"{name}: it is damaged and cannot be decoded ({error}); give another file.") from error
    pixels = np.array(rgb, dtype=np.float32)
    if 0 in pixels.shape:
        raise InputError(f"{name}: it has no pixels ({rgb.width} x {rgb.height}); give a picture of at least 1 x 1.")
    return torch.from_numpy(pixels) / 255


def _deep_grey(values: np.ndarray, mode: str, name: str) -> Tensor:
    """Grey of more than 8 bits -> float32 [H, W] in [0, 1]; whole numbers count as 16-bit, as in PNG and TIFF."""
    scale = 1.0 if mode == "F" else 65535.0
    return check_range(torch.from_numpy(values.astype(np.float32) / scale), name)


def _to_srgb(picture: Image.Image) -> Image.Image:
    """Colours of `picture` as sRGB without alpha; a profile that cannot be used is ignored, as viewers do."""
    from PIL import ImageCms

    plain = picture if picture.mode in ("RGB", "CMYK") else picture.convert("RGB")
    embedded = picture.info.get("icc_profile")
    if not embedded:
        return plain.convert("RGB")
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(embedded))
        if "srgb" in ImageCms.getProfileDescription(profile).lower():
            return plain.convert("RGB")
        converted = ImageCms.profileToProfile(plain, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return plain.convert("RGB")
    return converted
