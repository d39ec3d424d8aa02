"""The clips and pictures that pairs are made from, and a folder of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ..bounded import is_dir
from ..errors import InputError
from ..images import IMAGE_SUFFIXES, read_pixels, to_uint8
from ..main_memory import GrowingRoom, check_room
from ..source import is_video_file
from ..video import VIDEO_SUFFIXES, VideoInfo, VideoReader
from ..words import quoted_path

STILL_FPS = Fraction(1)
READ_BYTES = 6  # per pixel of a file while it is read: its frames, and a copy of them as one tensor
SCENE_BYTES = 10  # per pixel of a scene, beside the file: an edit of it, masks, measures, writing


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip, or a picture (T = 1).

    Attributes:
        key: its name in records and file names; only letters, digits, "-", "_" and ".".
        frames: uint8 [T, H, W, 3].
    """

    key: str
    frames: Tensor
    fps: Fraction = STILL_FPS


class ClipSource(Protocol):
    """Clips by key; always the same keys in the same order."""

    def keys(self) -> list[str]:
        """The keys of all clips; nothing is decoded."""

    def name(self, key: str) -> str:
        """What messages call a clip."""

    def read(self, key: str) -> Clip:
        """Raises InputError if the file cannot be read, NoRoom if it does not fit into memory now."""


class ClipFolder:
    """The pictures and videos of a folder and its subfolders, sorted by path.

    Raises:
        InputError: the folder does not exist or holds no pictures or videos.
    """

    def __init__(self, folder: Path, frames: int, longest: int) -> None:
        """
        Args:
            frames: read at most, per clip.
            longest: frames at most of a scene that pairs are made from.
        """
        if not is_dir(folder):
            raise InputError(f"{quoted_path(folder)} is not a folder; give a folder of clips or pictures.")
        self.folder, self.frames, self.longest = folder, frames, longest
        self.files = {_key(path.relative_to(folder)): path for path in _media(folder)}
        if not self.files:
            raise InputError(f"{quoted_path(folder)} has no pictures or videos; give another folder.")

    def keys(self) -> list[str]:
        return list(self.files)

    def name(self, key: str) -> str:
        return str(self.files[key].relative_to(self.folder))

    def read(self, key: str) -> Clip:
        path = self.files[key]
        if not is_video_file(path):
            return Clip(key, to_uint8(read_pixels(path))[None])
        frames: list[Tensor] = []
        with VideoReader(path, quiet=True) as reader:
            info = reader.info
            room = GrowingRoom(info.frames or 1, lambda frames: self._check_room(info, min(frames, self.frames)))
            for frame, _ in reader:
                room.reach(len(frames) + 1)
                frames.append(to_uint8(frame))
                if len(frames) == self.frames:
                    break
            if not frames:
                raise InputError(f"{quoted_path(path)} has no frames.")
            return Clip(key, torch.stack(frames), info.fps)

    def _check_room(self, info: VideoInfo, frames: int) -> None:
        """Raise NoRoom unless a file of `frames` frames and the work on its longest scene fit into memory."""
        needed = info.width * info.height * (READ_BYTES * frames + SCENE_BYTES * min(frames, self.longest))
        check_room(str(info.path), info.width, info.height, frames, needed=needed)


def _media(folder: Path) -> Iterator[Path]:
    suffixes = {*IMAGE_SUFFIXES, *VIDEO_SUFFIXES}
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.suffix.lower() in suffixes and path.is_file():
            yield path


def _key(path: Path) -> str:
    """A plain name, unique in the folder."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in str(path.with_suffix("")))
    return f"{plain[-60:].strip('-')}-{hashlib.sha256(str(path).encode(errors='surrogateescape')).hexdigest()[:8]}"
