"""Evenly spaced frames of a picture or clip, without the others in memory."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..guidance.frames import sample_indices
from ..images import read_pixels, to_floats
from ..main_memory import check_room
from ..paths import readable_file
from ..source import is_video_file
from ..video import VideoReader


def sampled_frames(path: Path, count: int) -> Tensor:
    """The frames of `load_source` that `sample_indices` chooses: float32 [min(T, count), H, W, 3] in [0, 1].

    A clip is decoded twice, as its true length is known only at its end (see `long_video.footage`).

    Raises:
        InputError: a file that is missing, damaged, or neither a picture nor a video; frames that do not fit into free
            memory.
    """
    if not is_video_file(readable_file(path)):
        return to_floats(read_pixels(path)[None])
    with VideoReader(path) as reader:
        length = sum(1 for _ in reader)
    chosen = set(sample_indices(length, count).tolist())
    with VideoReader(path, quiet=True) as reader:
        check_room(str(path), reader.info.width, reader.info.height, len(chosen), "show fewer frames (--frames)")
        return to_floats(torch.stack([frame for number, (frame, _) in enumerate(reader) if number in chosen]))
