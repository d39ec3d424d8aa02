"""The source of a long edit, read window by window: a file, or frames in memory.

A file is first decoded once for its true length and timestamps: containers state a wrong length if a file is damaged,
trimmed or of variable frame rate, and the plan must be exact. The extra pass costs little compared to editing.
Frames stay uint8, and only those of one window are held.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from ..images import to_uint8
from ..video import VideoInfo, VideoReader
from ..video.info import plain_rate
from ..windows import Window


@dataclass(frozen=True)
class Footage(ABC):
    """A video whose true length is known.

    Attributes:
        info: its metadata; `info.frames` is the true count.
        pts: the presentation timestamp of each frame, in units of info.time_base.
        last_duration: how long the last frame is shown, in the same units.
        sha256: of its content, in hexadecimal.
    """

    info: VideoInfo
    pts: list[int]
    last_duration: int
    sha256: str

    @abstractmethod
    def read(self, windows: Iterable[Window]) -> Iterator[Tensor]:
        """The frames of each window, uint8 [T, H, W, 3].

        Args:
            windows: in order; they may overlap or skip frames.

        Raises:
            InputError: the source has changed.
        """


@dataclass(frozen=True)
class FileFootage(Footage):
    """A video file that was looked through once; each `read` decodes it in one pass.

    Attributes:
        path: the file.
        stamp: its size in bytes and modification time, to detect changes during the edit.
    """

    path: Path
    stamp: tuple[int, int]

    def read(self, windows: Iterable[Window]) -> Iterator[Tensor]:
        self.check_unchanged()
        with VideoReader(self.path, quiet=True) as reader:  # the first pass has logged the warnings
            frames = (frame for frame, _ in reader)
            held: deque[tuple[int, Tensor]] = deque()  # with their numbers, from the window's first on
            decoded = 0
            for window in windows:
                while held and held[0][0] < window.start:
                    held.popleft()
                while decoded < window.stop:
                    frame = next(frames, None)
                    if frame is None:
                        raise self._changed()
                    if decoded >= window.start:
                        held.append((decoded, frame))
                    decoded += 1
                yield torch.stack([frame for number, frame in held if number < window.stop])
                self.check_unchanged()

    def check_unchanged(self) -> None:
        """Raise InputError if the file was replaced or modified since it was looked through."""
        if not self.path.is_file() or _stamp(self.path) != self.stamp:
            raise self._changed()

    def _changed(self) -> InputError:
        return InputError(f"{self.path} has changed during the edit; start again, and leave the file unchanged.")


@dataclass(frozen=True)
class MemoryFootage(Footage):
    """Frames in memory.

    Attributes:
        frames: float [T, H, W, 3] in [0, 1]; must not be changed meanwhile.
    """

    frames: Tensor

    def read(self, windows: Iterable[Window]) -> Iterator[Tensor]:
        for window in windows:
            yield to_uint8(self.frames[window.start : window.stop])


WRONG_RATE = 0.05  # relative difference up to which a stated rate is believed over the mean of the timestamps


def look_through(path: str | os.PathLike[str], watch: Callable[[int, Tensor], object] | None = None) -> FileFootage:
    """Decode a video once for its true length and timestamps, and hash the file.

    Args:
        path: the file.
        watch: called with the number and pixels, uint8 [H, W, 3], of each frame; its exceptions are passed on.

    Raises:
        InputError: the file is missing, is not a video, holds only sound, or has no frame that can be decoded.
    """
    with VideoReader(path) as reader:
        stamp = _stamp(reader.info.path)
        pts = []
        for index, (frame, shown) in enumerate(reader):
            pts.append(shown)
            if watch is not None:
                watch(index, frame)
        info, last_duration = replace(reader.info, frames=len(pts)), reader.frame_duration
    span = (pts[-1] - pts[0]) * info.time_base
    if span and abs((len(pts) - 1) / (span * info.fps) - 1) > WRONG_RATE:
        info = replace(info, fps=plain_rate((len(pts) - 1) / span))
    with open(info.path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return FileFootage(info, pts, last_duration, sha256, info.path, stamp)


@dataclass(frozen=True)
class CutFootage(Footage):
    """A time span of a file.

    Attributes:
        whole: the file.
        first: the number of the span's first frame in the file.
    """

    whole: FileFootage
    first: int

    def read(self, windows: Iterable[Window]) -> Iterator[Tensor]:
        shifted = (replace(one, start=one.start + self.first, stop=one.stop + self.first) for one in windows)
        return self.whole.read(shifted)


def take_span(whole: FileFootage, start: Fraction, stop: Fraction | None, sound: Path | None = None) -> CutFootage:
    """The frames of a file whose timestamps are in [start, stop).

    Args:
        start, stop: seconds; None for the end of the file.
        sound: a media file with the sound of the span.

    Raises:
        InputError: there are no frames in it.
    """
    base = whole.info.time_base
    inside = [
        number for number, pts in enumerate(whole.pts) if start <= pts * base and (stop is None or pts * base < stop)
    ]
    check_span(whole.path, inside, start, stop)
    first, last = inside[0], inside[-1]
    ends = whole.pts[last + 1] if last + 1 < len(whole.pts) else whole.pts[last] + whole.last_duration
    pts = [stamp - whole.pts[first] for stamp in whole.pts[first : last + 1]]
    info = replace(whole.info, frames=len(pts), path=sound or Path(), has_audio=sound is not None)
    digest = hashlib.sha256(f"{whole.sha256} {start} {stop}".encode()).hexdigest()
    return CutFootage(info, pts, ends - whole.pts[last], digest, whole, first)


def check_span(path: Path, frames: Sequence[object], start: Fraction, stop: Fraction | None) -> None:
    """Raise InputError if a file has no frame between `start` and `stop` (seconds; None for the end)."""
    if not frames:
        span = f"from {float(start):g} s" + (" on" if stop is None else f" to {float(stop):g} s")
        raise InputError(f"{path} has no frames {span}; give a range within the video.")


def in_memory(frames: Tensor, fps: Fraction, sound: Path | None = None) -> MemoryFootage:
    """Frames in memory as a video with a constant frame rate.

    Args:
        frames: float [T, H, W, 3] in [0, 1], T >= 1.
        fps: frames per second.
        sound: a media file with the video's sound.
    """
    rate = plain_rate(fps)
    height, width = frames.shape[1:3]
    nowhere = sound or Path()
    info = VideoInfo(nowhere, width, height, len(frames), rate, 1 / rate, has_audio=sound is not None)
    digest = hashlib.sha256(f"{list(frames.shape)} {rate}".encode())
    for frame in frames:
        digest.update(to_uint8(frame).contiguous().numpy())
    if sound is not None:
        digest.update(sound.read_bytes())
    return MemoryFootage(info, list(range(len(frames))), 1, digest.hexdigest(), frames)


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
