"""A VIDEO that comes from a file: its path, its trimmed part, and the frames and sound of that part.

Files are read by the library, so that errors, pixel handling and messages about what an edit cannot keep are the same
as on the command line. Sound is exact to the sample.
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import comfy.model_management as management
import folder_paths
import torch
from comfy_api.latest import Input, InputImpl

from ..instructx_core.main_memory import GrowingRoom, check_room
from .notes import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..instructx_core.video import VideoInfo

FOLDER = "InstructX"


@dataclass(frozen=True)
class Part:
    """A time span of a video file."""

    path: Path
    start: Fraction  # seconds
    stop: Fraction | None  # None: the end of the file

    @property
    def is_whole(self) -> bool:
        return not self.start and self.stop is None


@dataclass(frozen=True)
class Frames:
    """Frames and sound of a part of a video file, at a constant frame rate."""

    frames: torch.Tensor  # float32 [T, H, W, 3] in [0, 1]
    rate: Fraction
    audio: dict[str, Any] | None  # ComfyUI's AUDIO


def temp_folder() -> Path:
    """The pack's folder in ComfyUI's temporary folder, which is emptied when ComfyUI starts."""
    folder = Path(folder_paths.get_temp_directory()) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def file_of(video: Input.Video) -> Iterator[Part]:
    """The file of a VIDEO that was not made from frames; a temporary copy, if needed, is deleted after the block."""
    with TemporaryDirectory(dir=temp_folder()) as folder:
        if not isinstance(video, InputImpl.VideoFromFile):
            path = Path(folder) / "source.mp4"
            video.save_to(str(path))
            yield Part(path, Fraction(0), None)
            return
        start, duration = _trim(video)
        stop = start + duration if duration else None
        source = video.get_stream_source()
        if isinstance(source, io.BytesIO):
            path = Path(folder) / "source.mp4"
            path.write_bytes(source.getbuffer())
            source = path
        yield Part(Path(source), start, stop)


def read_frames(part: Part) -> Frames:
    """All frames of a part, with their sound.

    If the frame rate varies, frames are repeated or dropped for a constant rate in sync with the sound, with a message
    to the user.

    Raises:
        InputError: not a video, only sound, no frame in this part, or more frames than fit into memory.
    """
    from ..instructx_core.long_video.footage import check_span
    from ..instructx_core.video import VideoReader
    from ..instructx_core.video.constant_rate import constant_rate
    from ..instructx_core.video.sound import read_sound

    kept, times, last = [], [], Fraction(0)
    with VideoReader(part.path) as reader:
        info = reader.info
        count = info.frames or 1
        if part.stop is not None:
            count = min(count, ceil((part.stop - part.start) * info.fps))
        room = GrowingRoom(count, lambda frames: _check_room(info, part, frames))
        for frame, pts in reader:
            management.throw_exception_if_processing_interrupted()
            time = pts * info.time_base
            if part.stop is not None and time >= part.stop:
                last = min(last, part.stop - times[-1]) if times else last
                break
            if time >= part.start:
                room.reach(len(kept) + 1)
                kept.append(frame)
                times.append(time)
                last = reader.frame_duration * info.time_base
    check_span(part.path, times, part.start, part.stop)
    rate, shown = constant_rate(times, last, info.fps)
    if shown != list(range(len(kept))):
        say(
            f"This video's frame rate varies: its {len(kept)} frames became {len(shown)} at {float(rate):.4g} a second"
            " to stay in time with the sound. InstructX Sliding Window keeps the exact times."
        )
    if len(shown) > len(kept):
        _check_room(info, part, len(shown))
    frames = torch.empty(len(shown), *kept[0].shape)
    for slot, number in enumerate(shown):
        frames[slot] = kept[number]
    sound = None
    if info.has_audio:
        sound = read_sound(part.path, times[0], part.stop)
    audio = None if sound is None else {"waveform": sound.samples[None], "sample_rate": sound.rate}
    return Frames(frames.div_(255), rate, audio)


def _check_room(info: VideoInfo, part: Part, frames: int) -> None:
    """Raise InputError if this many frames of a part would not fit into memory."""
    advice = "scale it down, cut it, or connect it to InstructX Sliding Window"
    check_room(part.path.name, info.width, info.height, frames, advice)


def _trim(video: Input.Video) -> tuple[Fraction, Fraction]:
    """Start and duration of a video's part, in seconds; duration 0 means up to the end of the file."""
    if hasattr(video, "get_active_trim_window"):
        start, duration = video.get_active_trim_window()
    else:  # older versions of ComfyUI have no public access to the two values
        own = vars(video)
        start, duration = (own.get(f"_VideoFromFile__{name}") or 0 for name in ("start_time", "duration"))
    return tuple(Fraction(seconds).limit_denominator(1_000_000) for seconds in (start, duration))
