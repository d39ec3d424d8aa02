"""Load sources to edit, and save results.

A *source* is an image or a video: a path, a PIL image, or an array. Files say which they are (a video of one frame and
an animated GIF are videos); an array of one frame is an image. Videos are decoded once, into memory, which suits clips
of seconds. For long ones use `video.VideoReader` and `VideoWriter` frame by frame.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor

from .errors import InputError
from .images import (
    IMAGE_SUFFIXES,
    check_range,
    check_side,
    frame_count,
    is_animated,
    open_picture,
    read_pixels,
    to_floats,
    to_uint8,
    write_image,
)
from .main_memory import GrowingRoom, check_room
from .paths import readable_file, writable_file
from .video import VIDEO_SUFFIXES, VideoInfo, VideoReader, VideoWriter, check_writer, probe

if TYPE_CHECKING:
    from PIL import Image

Pixels: TypeAlias = "str | os.PathLike[str] | Image.Image | np.ndarray | Tensor"
_ACCEPTED = "a path, a PIL image, or an array or tensor [T, H, W, 3] or [H, W, 3]"


@dataclass(frozen=True, eq=False)
class Source:
    """An image or a video in memory.

    Attributes:
        pixels: uint8 [T, H, W, 3], or float32 in [0, 1] if given in floats or with more than 8 bits; upright, on the
            CPU; T = 1 for an image.
        is_video: whether it is a video, which may have a single frame.
        path: the file it was read from, if any.
        pts: for a video file, when each frame is shown, in units of info.time_base.
        info: for a video file, its properties, with the true count in `info.frames`.
        last_duration: for a video file, how long the last frame is shown, in units of info.time_base.
    """

    pixels: Tensor
    is_video: bool
    path: Path | None = None
    pts: list[int] | None = None
    info: VideoInfo | None = None
    last_duration: int | None = None

    @property
    def frames(self) -> Tensor:
        """float32 [T, H, W, 3] in [0, 1], converted from 8-bit pixels on each access: four times their memory."""
        return to_floats(self.pixels).contiguous()


def load_source(value: Pixels | Source, name: str = "source") -> Source:
    """Read a source whole; a Source passes through.

    Args:
        value: a path (image, animated image or video file), a PIL image (its current frame), or a numpy array or torch
            tensor [T, H, W, C] or [H, W, C] or [H, W], uint8 or float in [0, 1]; C = 3, or 1 for grey, or 4 with alpha,
            which is composited on white.
        name: what error messages call an array or PIL image.

    Raises:
        InputError: a file that is missing, damaged or of another kind; an array of another shape or type, without
            pixels, or with values outside [0, 1] (including NaN and infinity).
    """
    if isinstance(value, Source):
        return value
    if isinstance(value, (str, os.PathLike)):
        path = readable_file(value)
        return _load_video(path) if is_video_file(path) else Source(read_pixels(path)[None], is_video=False, path=path)
    if isinstance(value, (np.ndarray, Tensor)):
        pixels = _array_pixels(value, name)
        return Source(pixels, is_video=len(pixels) > 1)
    return Source(_read_pil(value, name)[None], is_video=False)


def load_references(value: Pixels | list[Pixels] | tuple[Pixels, ...] | None) -> list[Tensor]:
    """Read one reference image or several -> float32 [H, W, 3] in [0, 1] each, of any sizes; None gives an empty list.

    Each is an image as for `load_source`, or an animated image file, whose first frame is used.
    Raises InputError as `load_source` does, and for videos.
    """
    if value is None:
        return []
    if not isinstance(value, (list, tuple)):
        return [_load_reference(value, "reference")]
    return [_load_reference(one, f"reference {number}") for number, one in enumerate(value, start=1)]


def check_output(
    path: str | os.PathLike[str], like: Source | str | os.PathLike[str], *inputs: str | os.PathLike[str]
) -> Path:
    """Check, before any long work, that the edit of `like` can be saved at `path`.

    Args:
        path: the output file; an existing one will be replaced.
        like: the source, or its path, of which only the header is read.
        inputs: other files that must not be overwritten, such as references.

    Raises:
        InputError: the output is a folder, is in a folder that is missing or cannot be written to, has a suffix that is
            unknown or of the other kind (.png for a video), or is the same file as an input; the picture is too large
            for the format; the video, given as a path, has a size, colour or tracks that the format's encoders do not
            support.
    """
    target = writable_file(path)
    if isinstance(like, Source):
        origin, size = like.path, None if like.is_video else tuple(like.pixels.shape[1:3])
    else:
        origin = readable_file(like)
        size = _still_size(origin)
    is_video = size is None
    for other in (origin, *inputs):
        if other is not None and target.exists() and Path(other).exists() and target.samefile(other):
            raise InputError(f"{target}: the output would replace the input file; give another name.")
    suffix, right = target.suffix.lower(), VIDEO_SUFFIXES if is_video else IMAGE_SUFFIXES
    if suffix not in right:
        kind = "a video" if is_video else "an image"
        problem = (
            f"the result is {kind}"
            if suffix in VIDEO_SUFFIXES + IMAGE_SUFFIXES
            else f"'{suffix}' is not a known format"
        )
        raise InputError(f"{target}: {problem}; save {kind} as one of {', '.join(right)}.")
    if size is not None:
        check_side(target, max(size))
    elif not isinstance(like, Source):
        check_writer(target, probe(origin))
    return target


def save_result(frames: Tensor, path: str | os.PathLike[str], like: Source) -> None:
    """Save an edit under a name that appears only when the file is complete.

    Args:
        frames: [T, H, W, 3], uint8 or float in [0, 1], which is rounded to 8 bits.
        path: its suffix gives the format (images.IMAGE_SUFFIXES, video.VIDEO_SUFFIXES).
        like: the source of the edit; a video keeps its timestamps, rotation, colour and sound, if T is the same.

    Raises:
        InputError: as `check_output`; frames of another shape, or several for an image; a full disk.
    """
    target = check_output(path, like)
    if frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise InputError(f"frames: the shape is {list(frames.shape)}; give [T, H, W, 3] with at least one pixel.")
    if not like.is_video:
        if len(frames) != 1:
            raise InputError(f"frames: there are {len(frames)} for an image; give [1, H, W, 3].")
        write_image(frames[0], target)
        return
    same_length = like.pts is not None and len(like.pts) == len(frames)
    stamps = like.pts if same_length else [None] * len(frames)
    with VideoWriter(target, like=like.info) as writer:
        for index, (frame, pts) in enumerate(zip(frames, stamps, strict=True)):
            is_last = same_length and index == len(frames) - 1
            writer.write(to_uint8(frame), pts, like.last_duration if is_last else None)


def is_video_file(path: Path) -> bool:
    """Whether a file is a video or an animation, not a picture. Raises InputError if it is none of them."""
    return _still_size(path) is None


def _still_size(path: Path) -> tuple[int, int] | None:
    """The sides of a picture, before any rotation tag; None for a video or an animation.

    Raises InputError if it is none of them.
    """
    picture = open_picture(path)
    if picture is None:
        probe(path)
        return None
    with picture:
        return None if is_animated(picture) else picture.size


def _load_video(path: Path) -> Source:
    """Decode all frames into 8 bits."""
    if (picture := open_picture(path)) is not None:
        with picture:
            _check_length(path, *picture.size, frame_count(picture))
    with VideoReader(path) as reader:
        info, pts = reader.info, []
        room = GrowingRoom(info.frames or 1, lambda frames: _check_length(info.path, info.width, info.height, frames))
        pixels = _frames_of(info, room.frames)
        for frame, stamp in reader:
            if room.reach(len(pts) + 1):  # the container's frame count is wrong or missing
                longer = _frames_of(info, room.frames)
                longer[: len(pixels)] = pixels
                pixels = longer
            pixels[len(pts)] = frame
            pts.append(stamp)
        last_duration = reader.frame_duration
    return Source(pixels[: len(pts)], True, path, pts, replace(info, frames=len(pts)), last_duration)


def _frames_of(info: VideoInfo, frames: int) -> Tensor:
    """An uninitialised uint8 [frames, H, W, 3]."""
    return torch.empty(frames, info.height, info.width, 3, dtype=torch.uint8)


def _check_length(path: Path, width: int, height: int, frames: int) -> None:
    check_room(str(path), width, height, frames, "scale it down, or edit it in windows (--window)")


def _load_reference(value: Pixels, name: str) -> Tensor:
    if isinstance(value, (np.ndarray, Tensor)):
        pixels = _array_pixels(value, name)
        if len(pixels) > 1:
            raise InputError(f"{name}: it has {len(pixels)} frames; give one image [H, W, 3], or a list of images.")
        return to_floats(pixels[0]).contiguous()
    return to_floats(_read_pil(value, name)).contiguous()


def _read_pil(value: object, name: str) -> Tensor:
    from PIL import Image

    if not isinstance(value, (str, os.PathLike, Image.Image)):
        raise InputError(f"{name}: it is of type {type(value).__name__}; give {_ACCEPTED}.")
    return read_pixels(value, name)


def _array_pixels(value: np.ndarray | Tensor, name: str) -> Tensor:
    """Array or tensor -> a new [T, H, W, 3] on the CPU, uint8 or float32 in [0, 1]."""
    if isinstance(value, Tensor) and (value.is_nested or value.layout != torch.strided or value.device.type == "meta"):
        kind = "nested" if value.is_nested else "on the meta device" if value.is_meta else "sparse"
        raise InputError(f"{name}: the tensor is {kind}; give a plain tensor [T, H, W, 3] or [H, W, 3].")
    shape = list(value.shape)
    if len(shape) == 2:
        value = value[..., None]
    if value.ndim == 3:
        value = value[None]
    if value.ndim != 4 or value.shape[3] not in (1, 3, 4):
        hint = "; put the channels last" if len(shape) in (3, 4) and shape[-3] in (1, 3) else ""
        raise InputError(f"{name}: its shape is {shape}{hint}; give [T, H, W, 3] or [H, W, 3].")
    if 0 in value.shape:
        raise InputError(f"{name}: its shape {shape} has no pixels; give at least one frame of 1 x 1.")
    frames, height, width = value.shape[:3]
    check_room(name, width, height, frames)
    pixels = _own(value, name)
    if pixels.shape[3] == 4:
        pixels = to_floats(pixels)
        alpha = pixels[..., 3:]
        pixels = pixels[..., :3] * alpha + (1 - alpha)
    return pixels.expand(-1, -1, -1, 3)


def _own(value: np.ndarray | Tensor, name: str) -> Tensor:
    """uint8, or floats of any width -> a new tensor of the same shape, uint8 or float32 in [0, 1]."""
    dtype = str(value.dtype).removeprefix("torch.")
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "f":
            value = torch.from_numpy(value.astype(np.float32))
        elif value.dtype == np.uint8:
            value = torch.from_numpy(np.array(value))  # a copy: views may have negative strides or be read-only
    if isinstance(value, Tensor) and value.dtype == torch.uint8:
        return value.detach().to("cpu", copy=True).contiguous()
    if isinstance(value, Tensor) and value.is_floating_point():
        return check_range(value.detach().to("cpu", torch.float32), name)
    raise InputError(f"{name}: its type is {dtype}; give uint8, or floats in [0, 1].")
