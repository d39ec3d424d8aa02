"""Fit sources of any size and length to the model's and back, aligned to the pixel.

A source is scaled by one factor (up to rounding to whole pixels) to fit inside a canvas whose sides are multiples of
the model's stride; the rest of the canvas repeats the last row and column, and the last frame is repeated up to a
length of 1 + n * frame_multiple. Restoring cuts the padding off and scales back, so nothing is cropped, moved or
squeezed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral

import torch
import torch.nn.functional as F
from einops import rearrange

from .errors import InputError
from .images import strips, to_floats, to_uint8
from .words import shown

MAX_SIDE = 16384  # pixels of a canvas
MAX_ASPECT = 200  # Qwen2.5-VL's limit


@dataclass(frozen=True)
class Fit:
    """How one source fits the model's frames."""

    frames: int  # of the source
    size: tuple[int, int]  # of the source: height, width
    inner: tuple[int, int]  # the scaled source inside the canvas
    canvas: tuple[int, int]  # multiples of the stride
    padded_frames: int  # 1 + n * frame_multiple

    @property
    def shrinks(self) -> bool:
        """Whether the scaled source has fewer pixels than the source, so that detail is lost."""
        return math.prod(self.inner) < math.prod(self.size)

    def apply(self, frames: torch.Tensor) -> torch.Tensor:
        """[frames, H, W, 3], uint8 or float in [0, 1] -> float [padded_frames, *canvas, 3]."""
        pixels = resize(frames, self.inner)
        bottom, right = self.canvas[0] - self.inner[0], self.canvas[1] - self.inner[1]
        if bottom or right:
            channels_first = rearrange(pixels, "t h w c -> t c h w")
            pixels = rearrange(F.pad(channels_first, (0, right, 0, bottom), mode="replicate"), "t c h w -> t h w c")
        return repeat_last(pixels, self.padded_frames)

    def cut(self, frames: torch.Tensor) -> torch.Tensor:
        """[padded_frames, *canvas, ...] -> [frames, *inner, ...]: the scaled source without the padding."""
        return frames[: self.frames, : self.inner[0], : self.inner[1]]

    def restore(self, frames: torch.Tensor) -> torch.Tensor:
        """[padded_frames, *canvas, 3] -> [frames, H, W, 3] in [0, 1]."""
        return resize(self.cut(frames), self.size)


def plan_fit(
    frames: int,
    size: tuple[int, int],
    stride: int,
    frame_multiple: int,
    area: int,
    canvas: tuple[int, int] | None = None,
) -> Fit:
    """Choose the canvas for a source.

    Args:
        frames, size: the source's length and (height, width).
        stride: pixels that one DiT patch spans.
        frame_multiple: the model's clips have 1 + n * frame_multiple frames.
        area: pixels of the model's training frames; the canvas comes close to it, with the source's aspect.
        canvas: (height, width) to use instead.

    Raises:
        InputError: a side of a given canvas is not a positive multiple of the stride, or larger than `MAX_SIDE`.
    """
    if canvas is None:
        scale = math.sqrt(area / math.prod(size))
        canvas = tuple(max(1, round(side * scale / stride)) * stride for side in size)
    else:
        check_canvas(canvas, stride)
    inner = _inside(size, canvas)
    padded = 1 + math.ceil((frames - 1) / frame_multiple) * frame_multiple
    return Fit(frames, size, inner, canvas, padded)


def _inside(size: tuple[int, int], canvas: tuple[int, int]) -> tuple[int, int]:
    """The largest (height, width) within a canvas with the aspect of `size`, up to rounding."""
    scale = min(limit / side for side, limit in zip(size, canvas, strict=True))
    return tuple(min(limit, max(1, round(side * scale))) for side, limit in zip(size, canvas, strict=True))


def check_canvas(canvas: tuple[int, int], stride: int = 1) -> None:
    """Raise InputError unless both sides of a canvas are multiples of `stride` up to `MAX_SIDE`."""
    of_stride = f"multiple of {stride}" if stride > 1 else "number"
    for name, side in zip(("height", "width"), canvas, strict=True):
        if isinstance(side, bool) or not isinstance(side, Integral):
            raise InputError(f"{name} is {shown(side)}; give a whole number, a positive {of_stride}.")
        if side < stride or side % stride:
            raise InputError(f"{name} is {side}; give a positive {of_stride}, for example {nearest(side, stride)}.")
        if side > MAX_SIDE:
            raise InputError(f"{name} is {side}; give at most {MAX_SIDE}.")


def check_aspect(size: tuple[int, int], inner: tuple[int, int]) -> None:
    """Raise InputError if a frame of (height, width), scaled to `inner`, is too narrow for the MLLM."""
    if max(inner) > MAX_ASPECT * min(inner) or max(size) > MAX_ASPECT * min(size):
        raise InputError(
            f"A frame of {size[1]} x {size[0]} is too narrow; its sides may differ by a factor of at most {MAX_ASPECT}."
        )


def nearest(side: float, stride: int) -> int:
    """The positive multiple of `stride` closest to `side`."""
    return max(1, round(side / stride)) * stride


def resize(frames: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """[T, H, W, C], uint8 or float in [0, 1] -> float [T, *size, C], antialiased bicubic.

    It needs little memory beyond the result, however large the frames are; floats of that size are returned unchanged.
    """
    if tuple(frames.shape[1:3]) == tuple(size):
        return to_floats(frames)
    resized = torch.empty(len(frames), *size, frames.shape[3], device=frames.device, dtype=_computed(frames))
    for frame, whole in zip(frames, resized, strict=True):
        for columns, part in resized_columns(frame, size):
            whole[:, columns] = part
    return resized


def resized_columns(frame: torch.Tensor, size: tuple[int, int]) -> Iterator[tuple[slice, torch.Tensor]]:
    """`resize` one frame [H, W, C] in strips from left to right: each yields its columns and float [height, n, C].

    The rows are resized first, a strip of them at a time, then the columns; bit-identical to a single call.
    """
    height, width = size
    same = tuple(frame.shape[:2]) == (height, width)
    rows = frame if same else _resized_rows(frame, width)
    for columns in strips(width, max(height, len(frame)) * frame.shape[2]):
        part = rows[:, columns]
        yield columns, to_floats(part) if same else _interpolate(part, (height, part.shape[1])).clamp(0, 1)


def _resized_rows(frame: torch.Tensor, width: int) -> torch.Tensor:
    """[H, W, C] -> float [H, width, C], which may leave [0, 1]."""
    height, old, channels = frame.shape
    narrow = torch.empty(height, width, channels, device=frame.device, dtype=_computed(frame))
    for rows in strips(height, max(old, width) * channels):
        part = to_floats(frame[rows])
        narrow[rows] = _interpolate(part, (len(part), width))
    return narrow


def _interpolate(frame: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """[H, W, C] -> [*size, C], which may leave [0, 1]."""
    if frame.shape[1] == size[1] == 1:  # PyTorch 2.13 resizes a single column to wrong values
        return _interpolate(frame.expand(-1, 2, -1), (size[0], 2))[:, :1]
    pixels = rearrange(frame.to(_computed(frame)), "h w c -> 1 c h w")
    return rearrange(F.interpolate(pixels, size, mode="bicubic", antialias=True), "1 c h w -> h w c")


def _computed(frames: torch.Tensor) -> torch.dtype:
    """The dtype to resize in: PyTorch cannot resize half floats on a CPU."""
    return torch.float64 if frames.dtype == torch.float64 else torch.float32


def repeat_last(frames: torch.Tensor, count: int) -> torch.Tensor:
    """Pad [T, ...] to `count` frames with copies of the last."""
    missing = count - len(frames)
    return torch.cat([frames, frames[-1:].expand(missing, *frames.shape[1:])]) if missing else frames


def fit_reference(image: torch.Tensor, canvas: tuple[int, int]) -> torch.Tensor:
    """Scale a reference [H, W, 3] to fit the canvas, centre it and repeat its edges around it."""
    inner = _inside(tuple(image.shape[:2]), canvas)
    pixels = rearrange(resize(image[None], inner), "t h w c -> t c h w")
    top, left = (canvas[0] - inner[0]) // 2, (canvas[1] - inner[1]) // 2
    around = (left, canvas[1] - inner[1] - left, top, canvas[0] - inner[0] - top)
    return rearrange(F.pad(pixels, around, mode="replicate"), "1 c h w -> h w c")


def pad_reference(image: torch.Tensor, canvas: tuple[int, int]) -> torch.Tensor:
    """As `fit_reference`, in 8 bits and padded with white by Pillow's `ImageOps.pad`, as in Kiwi-Edit's training."""
    import numpy as np
    from PIL import Image, ImageOps

    picture = Image.fromarray(to_uint8(image).numpy())
    padded = ImageOps.pad(picture, (canvas[1], canvas[0]), color="white", centering=(0.5, 0.5))
    return torch.from_numpy(np.array(padded)).to(image) / 255


def own_size(image: torch.Tensor, bounds: tuple[int, int]) -> torch.Tensor:
    """A reference [H, W, 3] near its own size: sides rounded to multiples of the stride, scaled down if too long.

    Args:
        bounds: the stride, and the maximum of the longer side in pixels.
    """
    stride, longest = bounds
    scale = min(1.0, longest / max(image.shape[:2]))
    return resize(image[None], tuple(nearest(side * scale, stride) for side in image.shape[:2]))[0]


def resize_8bit(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """uint8 [H, W, 3] -> [*size, 3] with Pillow's bicubic, which rounds to 8 bits between its two passes."""
    import numpy as np
    from PIL import Image

    picture = Image.fromarray(image.numpy()).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(picture))
