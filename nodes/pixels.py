"""What comes along an IMAGE or VIDEO socket, as the library takes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import Input, InputImpl, Types

from ..instructx_core.errors import InputError

if TYPE_CHECKING:
    from fractions import Fraction


@dataclass(frozen=True)
class Clip:
    """An image or a video in memory."""

    frames: torch.Tensor  # float32 [T, H, W, 3] in [0, 1]
    is_video: bool  # a VIDEO of one frame is one too; of IMAGE, more than one frame
    frame_rate: Fraction | None = None
    audio: Any = None


def to_clip(value: torch.Tensor | Input.Video, name: str = "source") -> Clip:
    """Read an IMAGE (a batch is a video's frames) or a VIDEO.

    Raises:
        InputError: no frames, or not three or four channels; a fourth (alpha) is put on white; or a VIDEO whose file
            names other files.
    """
    if isinstance(value, Input.Video):
        check_file(value)
        components = value.get_components()
        return Clip(rgb(components.images, name), True, components.frame_rate, components.audio)
    return Clip(rgb(value, name), len(value) > 1)


def check_file(video: Input.Video) -> None:
    """Raise InputError where a VIDEO's file is a playlist or another that names files, which ComfyUI would read."""
    from ..instructx_core.video.container import check_media

    if isinstance(video, InputImpl.VideoFromFile):
        source = video.get_stream_source()
        check_media(Path(source) if isinstance(source, str) else source)


def to_video(frames: torch.Tensor, frame_rate: Fraction, audio: Any = None) -> Input.Video:
    """Frames [T, H, W, 3] as a VIDEO."""
    return InputImpl.VideoFromComponents(Types.VideoComponents(images=frames, audio=audio, frame_rate=frame_rate))


def to_references(*images: torch.Tensor | None) -> list[torch.Tensor]:
    """Every image of the connected batches: [H, W, 3] each."""
    return [image for batch in images if batch is not None for image in rgb(batch, "reference")]


def rgb(frames: torch.Tensor, name: str) -> torch.Tensor:
    """Frames [T, H, W, 3 or 4] as float32 [T, H, W, 3] on the CPU.

    Raises:
        InputError: as `to_clip`.
    """
    if frames.ndim != 4 or not len(frames):
        raise InputError(f"The {name} has no frames; connect an image or a video that holds at least one.")
    frames = frames.float().cpu()
    if frames.shape[-1] == 3:
        return frames
    if frames.shape[-1] == 4:
        return frames[..., :3] * frames[..., 3:] + (1 - frames[..., 3:])
    raise InputError(f"The {name} has {frames.shape[-1]} colour channels; give a picture with 3 (RGB) or 4 (RGBA).")
