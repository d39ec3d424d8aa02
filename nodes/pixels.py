"""Check the values of IMAGE, MASK and VIDEO sockets, and convert them for the library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import Input, InputImpl, Types

from ..instructx_core.compositing import as_mask
from ..instructx_core.errors import InputError
from .video_files import file_of, read_frames

if TYPE_CHECKING:
    from fractions import Fraction

OVERSHOOT = 1.0  # how far resampling and sharpening may leave [0, 1]; beyond that, the picture has a different range
OVERFLOWED = "; the model's values overflowed: load it in bfloat16 or float32"


@dataclass(frozen=True)
class Clip:
    """An image or a video in memory."""

    frames: torch.Tensor  # float32 [T, H, W, 3] in [0, 1]
    is_video: bool  # any VIDEO, even of one frame, or an IMAGE of more than one frame
    frame_rate: Fraction | None = None
    audio: Any = None


def to_clip(value: torch.Tensor | Input.Video) -> Clip:
    """Read an IMAGE (a batch is a video's frames) or a VIDEO.

    Raises:
        InputError: as for `checked`; or a VIDEO without a decodable picture.
    """
    if isinstance(value, InputImpl.VideoFromComponents):
        parts = value.get_components()
        frames = _with_alpha(parts.images, getattr(parts, "alpha", None))
        return Clip(rgb(frames, "source"), True, parts.frame_rate, parts.audio)
    if isinstance(value, Input.Video):
        with file_of(value) as part:
            read = read_frames(part)
        return Clip(read.frames, True, read.rate, read.audio)
    return Clip(rgb(value, "source"), len(value) > 1)


def to_video(frames: torch.Tensor, frame_rate: Fraction, audio: Any = None) -> Input.Video:
    """Frames [T, H, W, 3] as a VIDEO."""
    return InputImpl.VideoFromComponents(Types.VideoComponents(images=frames, audio=audio, frame_rate=frame_rate))


def to_references(*images: torch.Tensor | None) -> list[torch.Tensor]:
    """All images of the connected batches, [H, W, 3] each."""
    return [image for batch in images if batch is not None for image in rgb(batch, "reference")]


def rgb(frames: torch.Tensor, name: str, advice: str = "") -> torch.Tensor:
    """Frames [T, H, W, 1, 3 or 4] as float32 [T, H, W, 3] in [0, 1] on the CPU; alpha is composited on white.

    Raises:
        InputError: as for `checked`, which takes the same arguments.
    """
    frames = checked(frames, name, advice).cpu().clamp(0, 1)
    if frames.shape[-1] == 4:
        return frames[..., :3] * frames[..., 3:] + (1 - frames[..., 3:])
    return frames.expand(-1, -1, -1, 3)


def checked(frames: torch.Tensor, name: str, advice: str = "") -> torch.Tensor:
    """Frames [T, H, W, 1, 3 or 4] as float32; uint8 is scaled to [0, 1].

    Args:
        advice: appended to the error message for a NaN or infinite value.

    Raises:
        InputError: no frames, an unsupported number of channels or dtype, NaN, infinity, or a range other than [0, 1].
    """
    if not isinstance(frames, torch.Tensor) or frames.ndim != 4 or 0 in frames.shape:
        raise InputError(f"The {name} has no frames; connect an image or a video that holds at least one.")
    if frames.shape[-1] not in (1, 3, 4):
        raise InputError(f"The {name} has {frames.shape[-1]} colour channels; give a picture with 3 (RGB) or 4 (RGBA).")
    if frames.dtype == torch.uint8:
        return frames.float() / 255
    if not frames.is_floating_point():
        kind = str(frames.dtype).removeprefix("torch.")
        raise InputError(f"The {name} has the type {kind}; give floats in [0, 1], or uint8.")
    return _in_range(frames.float(), name, advice)


def mask_of(mask: torch.Tensor) -> torch.Tensor:
    """A MASK as float32 [T, H, W] in [0, 1], from two to four dimensions, or more if the leading ones are 1.

    Raises:
        InputError: as for the library's `as_mask`.
    """
    while mask.ndim > 4 and mask.shape[0] == 1:
        mask = mask[0]
    floats = mask.is_floating_point()
    return as_mask(_in_range(mask.float(), "mask").clamp(0, 1) if floats and mask.numel() else mask, "mask")


def _in_range(values: torch.Tensor, name: str, advice: str = "") -> torch.Tensor:
    """Raise InputError if a value is not finite or far outside [0, 1]."""
    wrong = ~((values >= -OVERSHOOT) & (values <= 1 + OVERSHOOT))  # NaN compares false, so it is caught as well
    if wrong.any():
        index = wrong.nonzero()[0].tolist()
        number = values[tuple(index)]
        raise InputError(
            f"The {name} holds {number.item():g} at index {index} ({int(wrong.sum())} such values of"
            f" {values.numel()}); give finite floats in [0, 1]{'' if number.isfinite() else advice}."
        )
    return values


def _with_alpha(images: torch.Tensor, alpha: torch.Tensor | None) -> torch.Tensor:
    """Frames [T, H, W, 3], with alpha [T, H, W] or [T, H, W, 1], if any, as a fourth channel."""
    if alpha is None:
        return images
    return torch.cat([images, (alpha if alpha.ndim == 4 else alpha[..., None]).to(images)], dim=-1)
