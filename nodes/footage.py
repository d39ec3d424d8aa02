"""A VIDEO as `Footage` for the library's loop over windows: read from its file if it has one, never decoded whole."""

from __future__ import annotations

import wave
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import comfy.model_management as management
import torch
from comfy_api.latest import Input, InputImpl

from ..instructx_core.errors import InputError
from .notes import say
from .pixels import to_clip
from .video_files import file_of, temp_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..instructx_core.long_video.footage import Footage
    from .video_files import Part


@contextmanager
def footage_of(video: Input.Video) -> Iterator[Footage]:
    """A VIDEO to read window by window; temporary copies are deleted after the block.

    - A file, or a trimmed part of it, is read in place; the part's sound is cut to the exact sample.
    - Frames made by a node are read from memory.
    - Everything else is first saved to a temporary file.

    Raises:
        InputError: a video that cannot be decoded at all, or frames, a frame rate or sound that cannot be used.
    """
    from ..instructx_core.long_video.footage import in_memory

    with TemporaryDirectory(dir=temp_folder()) as name:
        folder = Path(name)
        if isinstance(video, InputImpl.VideoFromComponents):
            clip = to_clip(video)
            if not clip.frame_rate > 0:
                raise InputError(f"The source has {clip.frame_rate} frames a second; give it a frame rate above 0.")
            yield in_memory(clip.frames, clip.frame_rate, _sound(clip.audio, folder / "sound.wav"))
            return
        with file_of(video) as part:
            yield _of_file(part, folder)


def _of_file(part: Part, folder: Path) -> Footage:
    from ..instructx_core.long_video.footage import look_through, take_span
    from ..instructx_core.video.other_tracks import held_beside_sound
    from ..instructx_core.video.sound import cut_sound

    def stop_if_cancelled(_index: int, _frame: torch.Tensor) -> None:
        management.throw_exception_if_processing_interrupted()

    whole = look_through(part.path, stop_if_cancelled)
    if part.is_whole:
        return whole
    if lost := held_beside_sound(part.path):
        say(f"A part of a video keeps its pictures and sound, but not its {', '.join(lost)}.")
    times = (pts * whole.info.time_base for pts in whole.pts)
    begin = next((time for time in times if time >= part.start), part.start)  # the sound starts at the first frame
    sound = folder / "sound.mka"
    heard = whole.info.has_audio and cut_sound(part.path, begin, part.stop, sound)
    return take_span(whole, part.start, part.stop, sound if heard else None)


def _sound(audio: dict[str, Any] | None, path: Path) -> Path | None:
    """Write AUDIO to a file of 16-bit samples; None if it is missing or empty.

    Raises:
        InputError: samples that are not finite, or of another shape than ComfyUI's AUDIO.
    """
    if audio is None or not audio["waveform"].shape[-1]:
        return None
    shape, rate = list(audio["waveform"].shape), int(audio["sample_rate"])
    if len(shape) != 3 or 0 in shape or rate < 1:
        raise InputError(
            f"The source's sound has the shape {shape} at {rate} samples a second; connect one of [1, channels, "
            "samples], or none."
        )
    waveform = audio["waveform"][0].float().cpu()  # [channels, N]
    if not waveform.isfinite().all():
        raise InputError("The source's sound holds NaN or infinity; connect another sound, or none.")
    samples = (waveform.clamp(-1, 1) * 32767).round().to(torch.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(samples))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.T.contiguous().numpy().tobytes())
    return path
