"""The source of a long edit: looked through once to know its true length and times, then read window by window.

Containers are wrong about their length where a file is damaged, trimmed or of variable frame rate, and a plan needs to
be right; decoding once more costs little beside editing. Frames stay uint8, and only those of one window are held.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from ..video import VideoInfo, VideoReader
from ..windows import Window


@dataclass(frozen=True)
class Footage:
    """A video file after one look through it.

    Attributes:
        path: the file.
        info: what it says about itself; `info.frames` is the true count.
        pts: when each frame that can be decoded is shown, in units of info.time_base; as many as there are frames.
        last_duration: how long the last one is shown, in the same units.
        sha256: of the file, in hexadecimal.
        stamp: its size in bytes and time of change, which tell when it is exchanged during the edit.
    """

    path: Path
    info: VideoInfo
    pts: list[int]
    last_duration: int
    sha256: str
    stamp: tuple[int, int]

    def read(self, windows: Iterable[Window]) -> Iterator[Tensor]:
        """The frames of each window, uint8 [T, H, W, 3], decoded in one pass over the file.

        Args:
            windows: in order; they may overlap, and leave frames out.

        Raises:
            InputError: the file is no longer the one that was looked through.
        """
        self.check_unchanged()
        with VideoReader(self.path) as reader:
            frames = (frame for frame, _ in reader)
            held: deque[tuple[int, Tensor]] = deque()  # with their numbers; none before the window
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
        """Raise InputError if the file has been replaced or written to since it was looked through."""
        if not self.path.is_file() or _stamp(self.path) != self.stamp:
            raise self._changed()

    def _changed(self) -> InputError:
        return InputError(f"{self.path}: it was changed while it was being edited; leave it alone and start again.")


def look_through(path: str | os.PathLike[str]) -> Footage:
    """Decode a video once for its true length and times, and hash the file.

    Raises:
        InputError: a file that is missing, no video, holds only sound, or of which no frame can be decoded.
    """
    with VideoReader(path) as reader:
        stamp = _stamp(reader.info.path)
        pts = [shown for _, shown in reader]
        info, last_duration = replace(reader.info, frames=len(pts)), reader.frame_duration
    with open(info.path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Footage(info.path, info, pts, last_duration, sha256, stamp)


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
