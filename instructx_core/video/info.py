"""The properties of a video file, and how its stored frames are displayed."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from torch import Tensor

from .colour import Colour
from .hdr import Hdr

# FFmpeg's display matrix (a, b, u, c, d, v, x, y, w): a stored pixel (p, q) is shown at (a p + c q, b p + d q).
DisplayMatrix = tuple[int, ...]


@dataclass(frozen=True)
class VideoInfo:
    """The properties of a video file, which an edit of it keeps.

    Attributes:
        path: the file.
        width, height: in pixels, as displayed, that is after rotation.
        frames: how many, according to the container, or None. Damaged or trimmed files may differ.
        fps: frames per second, the average where it varies.
        time_base: seconds in one unit of a timestamp.
        has_audio: whether it holds a sound track.
        rotation: degrees by which stored frames are turned counter-clockwise for display: 0, 90, 180 or 270.
        display_matrix: the tag for it, which includes mirroring: FFmpeg's 9 fixed-point numbers, or None.
        pixel_aspect: width / height of a stored pixel; 1 except in anamorphic video.
        colour: its colour tags.
        hdr: HDR10 static metadata, or None.
    """

    path: Path
    width: int
    height: int
    frames: int | None
    fps: Fraction
    time_base: Fraction
    has_audio: bool = False
    rotation: int = 0
    display_matrix: DisplayMatrix | None = None
    pixel_aspect: Fraction = Fraction(1)
    colour: Colour = field(default_factory=Colour)
    hdr: Hdr | None = None


def plain_rate(fps: Fraction | float) -> Fraction:
    """Frames per second as a plain fraction, such as 30000/1001 or 1/3600."""
    rate = Fraction(fps)
    return rate.limit_denominator(1001) if rate >= 1 else 1 / (1 / rate).limit_denominator(1001)


def is_turned(matrix: DisplayMatrix | None) -> bool:
    """True if width and height are swapped for display."""
    return matrix is not None and abs(matrix[1]) > abs(matrix[0])


def upright(frame: Tensor, matrix: DisplayMatrix | None) -> Tensor:
    """Stored frame [H, W, 3] -> as displayed; angles are rounded to quarter turns."""
    if is_turned(matrix):
        frame = frame.transpose(0, 1)
    return frame.flip(_mirrored(matrix)).contiguous()


def turned_back(frame: Tensor, matrix: DisplayMatrix | None) -> Tensor:
    """Displayed frame [H, W, 3] -> as stored under this matrix: the inverse of `upright`."""
    frame = frame.flip(_mirrored(matrix))
    return (frame.transpose(0, 1) if is_turned(matrix) else frame).contiguous()


def _mirrored(matrix: DisplayMatrix | None) -> list[int]:
    """The axes (0 rows, 1 columns) that run backwards on the screen."""
    if matrix is None:
        return []
    across, down = (matrix[3], matrix[1]) if is_turned(matrix) else (matrix[0], matrix[4])
    return [axis for axis, direction in ((0, down), (1, across)) if direction < 0]
