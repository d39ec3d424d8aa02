"""Tell a long video from a short one."""

from __future__ import annotations

import os
from itertools import islice

from .reader import VideoReader


def has_more_frames(path: str | os.PathLike[str], frames: int) -> bool:
    """Whether a video has more than `frames` frames. Raises InputError as `VideoReader` does.

    Matroska, WebM and broadcast formats do not say how many they have: then up to `frames` + 1 are decoded, as packets
    may hold no frame or several.
    """
    with VideoReader(path, quiet=True) as reader:
        if reader.info.frames is not None:
            return reader.info.frames > frames
        return sum(1 for _ in islice(reader, frames + 1)) > frames
