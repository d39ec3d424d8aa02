"""A VIDEO as the library's loop over windows reads it: from its file where it has one, never decoded whole."""

from __future__ import annotations

import wave
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import comfy.model_management as management
import folder_paths
import torch
from comfy_api.latest import Input, InputImpl

from .pixels import check_file, rgb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..instructx_core.long_video.footage import Footage

FOLDER = "InstructX"


def temp_folder() -> Path:
    """The pack's folder in ComfyUI's temporary one, which is emptied when ComfyUI starts."""
    folder = Path(folder_paths.get_temp_directory()) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def footage_of(video: Input.Video) -> Iterator[Footage]:
    """A VIDEO to read window by window; copies that this needs are gone after the block.

    - A file is read from where it lies.
    - Frames that a node made are in memory already, and read from there.
    - All else (a file cut in time, bytes) is saved to a temporary file first.

    Raises:
        InputError: a video of which nothing can be decoded, that names other files, or frames that are no pictures.
    """
    from ..instructx_core.long_video.footage import hold, look_through

    def stop_if_cancelled(_index: int, _frame: torch.Tensor) -> None:
        management.throw_exception_if_processing_interrupted()

    with TemporaryDirectory(dir=temp_folder()) as name:
        folder = Path(name)
        if isinstance(video, InputImpl.VideoFromComponents):
            parts = video.get_components()
            yield hold(rgb(parts.images, "source"), parts.frame_rate, _sound(parts.audio, folder / "sound.wav"))
            return
        check_file(video)
        path = video.get_stream_source() if _is_whole_file(video) else None
        if not isinstance(path, str):
            path = str(folder / "source.mp4")
            video.save_to(path)
        yield look_through(path, stop_if_cancelled)


def _is_whole_file(video: Input.Video) -> bool:
    """Whether a VIDEO is a file from beginning to end."""
    if not isinstance(video, InputImpl.VideoFromFile):
        return False
    if hasattr(video, "get_active_trim_window"):
        return not any(video.get_active_trim_window())
    own = vars(video)  # before that method came, the two numbers could not be asked for
    return not any(own.get(f"_VideoFromFile__{name}") for name in ("start_time", "duration"))


def _sound(audio: dict[str, Any] | None, path: Path) -> Path | None:
    """AUDIO as a file of 16-bit samples, None where there is nothing to hear."""
    if audio is None or not audio["waveform"].shape[-1]:
        return None
    samples = (audio["waveform"][0].float().cpu().clamp(-1, 1) * 32767).round().to(torch.int16)  # [channels, N]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(samples))
        file.setsampwidth(2)
        file.setframerate(int(audio["sample_rate"]))
        file.writeframes(samples.T.contiguous().numpy().tobytes())
    return path
