"""Still images: any picture that Pillow opens <-> RGB tensors.

Decisions:
- Pixels are upright (EXIF orientation applied) and sRGB: another embedded profile (Display P3, CMYK) is converted,
  because the written file has no profile and would show wrong colours.
- Alpha is composited on white, the background that most transparent pictures are drawn for.
- 16-bit grey is divided by 65535, not clipped to 8 bits as in Pillow's conversion. Float grey (TIFF) is in [0, 1];
  values outside are clipped with a warning, and a picture with most of its values outside is refused.
- GIF, WebP, PNG and AVIF files with more than one frame are animations; `video.VideoReader` reads all of their frames,
  `read_image` the first. A PIL image object is one picture: its current frame.
- Memory: pixels stay 8-bit as long as possible, and float operations work strip by strip.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .atomic import partial_file
from .errors import InputError
from .main_memory import check_room
from .paths import readable_file
from .still_kinds import check_kind, register_heif

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger(__name__)

# Accepted formats; other Pillow plugins (MPEG, EPS, ...) open files that are not pictures to edit.
_STILL_FORMATS = {"PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "HEIF", "JPEG2000", "ICO"}
_ANIMATED_FORMATS = {"GIF", "WEBP", "PNG", "AVIF"}  # not MPO, TIFF: their other pages are different pictures
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
_LONGEST = {".jpg": 65_500, ".jpeg": 65_500, ".webp": 16_383}  # the encoders' limits for a side, in pixels
RANGE_SLACK = 1e-4  # tolerated overshoot of [0, 1] by resampling or rounding
STRIP = 2**20  # float values processed at a time
_LINEAR = 32  # levels that a linear profile moves middle grey by, and more
_ORIENTATION = 0x0112
_PHOTOMETRIC = 262  # TIFF's tag


def open_picture(path: Path) -> Image.Image | None:
    """Open an image file (its header only), or return None if it is not one; the caller closes it.

    Raises InputError for a picture that is too large, or of a kind that Pillow would read only in part.
    """
    from PIL import Image

    Image.init()
    register_heif()
    try:
        picture = Image.open(path, formats=sorted(_STILL_FORMATS & Image.OPEN.keys()))
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: {_too_many_pixels()}") from error
    except Exception:  # plugins raise any kind of error for malformed bytes
        picture = None
    try:
        check_kind(path, picture)
    except InputError:
        if picture is not None:
            picture.close()
        raise
    return picture


def is_animated(picture: Image.Image) -> bool:
    """Whether an opened image file is an animation."""
    try:
        return picture.format in _ANIMATED_FORMATS and bool(getattr(picture, "is_animated", False))
    except Exception:  # this parses the GIF's bytes, which may be malformed
        return False


def frame_count(picture: Image.Image) -> int:
    """The number of frames that an animation claims to have; 1 if they cannot be counted."""
    try:
        return int(getattr(picture, "n_frames", 1))
    except Exception:  # as above
        return 1


def read_image(value: str | os.PathLike[str] | Image.Image) -> Tensor:
    """Read one picture as float32 [H, W, 3] in [0, 1]. Arguments and errors as in `read_pixels`."""
    return to_floats(read_pixels(value)).contiguous()


def read_pixels(value: str | os.PathLike[str] | Image.Image, name: str = "image") -> Tensor:
    """Read one picture as uint8 [H, W, 3], or as float32 in [0, 1] if it has more than 8 bits.

    value: a path or a PIL image; name: what error messages call a PIL image (files go by their path).
    Raises InputError if the file is missing, is not an image, is damaged, needs more memory than is free, or has values
    out of range.
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


def read_encoded(data: bytes, name: str) -> Tensor:
    """As `read_pixels`, for the bytes of an image file; messages call it `name`."""
    from io import BytesIO

    from PIL import Image

    Image.init()
    register_heif()
    try:
        picture = Image.open(BytesIO(data), formats=sorted(_STILL_FORMATS & Image.OPEN.keys()))
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: {_too_many_pixels()}") from error
    except Exception as error:  # as in `open_picture`
        raise InputError(f"{name}: it is not a picture that can be read; give a PNG, JPEG or WebP.") from error
    with picture:
        return _to_rgb(picture, name)


def write_image(pixels: Tensor, path: Path) -> None:
    """Write [H, W, 3], uint8 or float in [0, 1], as an 8-bit image in the format of the suffix of `path`.

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


def check_side(path: Path, side: int) -> None:
    """Raise InputError if the format of `path` cannot store a picture whose longer side has `side` pixels."""
    longest = _LONGEST.get(path.suffix.lower(), side)
    if side > longest:
        raise InputError(f"{path}: its format allows sides of at most {longest} pixels, not {side}; write a PNG.")


def to_uint8(pixels: Tensor) -> Tensor:
    """Float pixels in [0, 1] of any shape -> uint8 on the CPU, rounded; uint8 is returned unchanged."""
    if pixels.dtype == torch.uint8:
        return pixels.detach().cpu()
    if pixels.ndim and len(pixels) == 1:
        return to_uint8(pixels[0])[None]
    if pixels.numel() <= STRIP or not pixels.ndim:
        return (pixels.detach().float().clamp(0, 1) * 255).round().to("cpu", torch.uint8)
    whole = torch.empty(pixels.shape, dtype=torch.uint8)
    for rows in strips(len(pixels), pixels[0].numel()):
        whole[rows] = to_uint8(pixels[rows])
    return whole


def to_floats(pixels: Tensor) -> Tensor:
    """uint8 -> float32 in [0, 1]; floats are returned unchanged."""
    return pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels


def strips(length: int, each: int) -> Iterator[slice]:
    """Cut an axis of `length` positions, each with `each` values, into slices of about STRIP values."""
    step = max(1, STRIP // max(1, each))
    return (slice(start, min(start + step, length)) for start in range(0, length, step))


def check_range(values: Tensor, name: str) -> Tensor:
    """Return float `values` clamped to [0, 1] if they exceed it by at most RANGE_SLACK.

    Raises InputError with `name`, the first offending value and its index.
    """
    low, high = values.aminmax()
    if low >= -RANGE_SLACK and high <= 1 + RANGE_SLACK:  # NaN compares false
        return values.clamp(0, 1)
    wrong = ~((values >= -RANGE_SLACK) & (values <= 1 + RANGE_SLACK))
    index = tuple(wrong.nonzero()[0].tolist())
    raise InputError(
        f"{name}: it holds {values[index].item():g} at index {list(index)} ({int(wrong.sum())} such values of "
        f"{values.numel()}); give finite floats in [0, 1], or uint8."
    )


def _to_rgb(picture: Image.Image, name: str) -> Tensor:
    """PIL image -> uint8 [H, W, 3], or float32 in [0, 1] for deep grey; upright, sRGB, on white."""
    from PIL import Image

    check_room(name, picture.width, picture.height)
    try:
        inverted = getattr(picture, "tag_v2", {}).get(_PHOTOMETRIC) == 0  # a TIFF with 0 as white
        picture = _upright(picture)
        if 0 in picture.size:
            raise InputError(
                f"{name}: it has no pixels ({picture.width} x {picture.height}); give a picture of at least 1 x 1."
            )
        if picture.mode.startswith(("I", "F")):
            return _deep_grey(picture, name, inverted)[..., None].expand(-1, -1, 3)
        return _plain_rgb(picture)
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: {_too_many_pixels()}") from error
    except MemoryError as error:
        raise InputError(f"{name}: there is not enough memory to decode it; scale it down.") from error
    except Exception as error:  # decoders raise any kind of error for malformed bytes
        raise InputError(f"{name}: it is damaged and cannot be decoded ({error}); give another file.") from error


def _upright(picture: Image.Image) -> Image.Image:
    from PIL import ImageOps

    picture.load()  # a PNG's EXIF may come after its pixels
    return ImageOps.exif_transpose(picture) if picture.getexif().get(_ORIENTATION, 1) in range(2, 9) else picture


def _plain_rgb(picture: Image.Image) -> Tensor:
    from PIL import Image

    convert = _srgb_converter(picture)
    width, height = picture.size
    pixels = np.empty((height, width, 3), np.uint8)
    for rows in strips(height, 3 * width):
        strip = picture.crop((0, rows.start, width, rows.stop))
        rgb = convert(strip)
        if strip.has_transparency_data:
            alpha = strip.convert("RGBA").getchannel("A")
            rgb = Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)
        pixels[rows] = np.asarray(rgb)
    return torch.from_numpy(pixels)


def _deep_grey(picture: Image.Image, name: str, inverted: bool) -> Tensor:
    """Grey of more than 8 bits -> float32 [H, W] in [0, 1]; integers are 16-bit, as in PNG and TIFF."""
    floats, (width, height) = picture.mode == "F", picture.size
    clear = picture.info.get("transparency")  # a PNG's transparent grey value
    grey = torch.empty(height, width)
    for rows in strips(height, width):
        values = np.asarray(picture.crop((0, rows.start, width, rows.stop))).astype(np.float32)
        if not floats and (values.max() > 65535 or values.min() < 0):
            wrong = values.min() if values.min() < 0 else values.max()
            raise InputError(f"{name}: it has the value {wrong:g}; give integers from 0 to 65535.")
        if clear is not None:
            values[values == clear] = 65535  # on white
        if inverted and not floats:  # Pillow inverts only 8-bit ones
            values = 65535 - values
        grey[rows] = torch.from_numpy(values if floats else values / 65535.0)
    if floats and grey.isfinite().all() and (grey.amax() > 1 + RANGE_SLACK or grey.amin() < -RANGE_SLACK):
        outside, low, high = int(((grey > 1) | (grey < 0)).sum()), float(grey.amin()), float(grey.amax())
        if outside > grey.numel() // 2:
            raise InputError(
                f"{name}: most of its values lie outside [0, 1] (from {low:g} to {high:g}); scale them to [0, 1] first."
            )
        said = "%s: %d of its pixels lie outside [0, 1] (from %g to %g) and are clipped."
        logger.warning(said, name, outside, low, high)
        grey.clamp_(0, 1)
    return check_range(grey, name)


def _srgb_converter(picture: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """Make a converter of `picture`'s strips to sRGB without alpha; an unusable profile is ignored, as in viewers."""
    from PIL import Image, ImageCms

    def plain(strip: Image.Image) -> Image.Image:
        return strip if strip.mode in ("RGB", "CMYK") else strip.convert("RGB")

    def ignoring(strip: Image.Image) -> Image.Image:
        return plain(strip).convert("RGB")

    embedded = picture.info.get("icc_profile")
    if not embedded:
        return ignoring
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(embedded))
        mode = "CMYK" if picture.mode == "CMYK" else "RGB"
        transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
        ImageCms.applyTransform(plain(picture.crop((0, 0, 1, 1))), transform)
        if mode == "RGB" and "srgb" in ImageCms.getProfileDescription(profile).lower():
            grey = ImageCms.applyTransform(Image.new("RGB", (1, 1), (128, 128, 128)), transform).getpixel((0, 0))
            if max(abs(value - 128) for value in grey) < _LINEAR:  # "Linear sRGB" has only its colours
                return ignoring
    except (ImageCms.PyCMSError, OSError):
        return ignoring
    return lambda strip: ImageCms.applyTransform(plain(strip), transform)


def _too_many_pixels() -> str:
    from PIL import Image

    most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
    return f"it is too large to open as an image (more than {most / 1e6:.0f} million pixels); scale it down."
