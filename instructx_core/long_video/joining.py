"""Join windows: hand frames over to the next one, fade between two, and keep colour from drifting off the source's.

The frames handed over are those that are written: 8-bit, joined and colour-corrected. A resumed edit therefore
continues from exactly the same values as an uninterrupted one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..windows import Window

CELL = 8  # pixels
UNEDITED = 0.06  # of [0, 1]: how much VAE and sampler may change the mean of an unedited cell
ENOUGH = 0.25  # share of a frame that must be unedited to measure its colour drift
LARGEST = 4 / 255  # maximum correction: drift within a window is small, and a faint edit must not be undone


@dataclass(frozen=True)
class EditedWindow:
    """A finished window."""

    frames: Tensor  # uint8 [T, H, W, 3] at the source's size
    latents: Tensor  # float32 [1, C, t, h, w] as sampled, on the CPU, in the model's own scale


@dataclass(frozen=True)
class Handover:
    """The start of a window: the frames that it shares with the previous one, as edited there."""

    frames: Tensor  # uint8 [O, H, W, 3]
    latents: Tensor  # float32 [1, C, o, h, w], the latent frames that contain them

    def head(self, overlap: int, temporal_stride: int) -> Handover:
        """The part with which the window starts unchanged: up to the first of the `overlap` frames that fade.

        The window edits the other shared frames itself, so that there are two versions to fade between; the fade
        spreads the remaining difference over them.
        """
        frames = len(self.frames) - overlap + 1
        return Handover(self.frames[:frames], self.latents[:, :, : 1 + (frames - 1) // temporal_stride])


def make_handover(edited: EditedWindow, window: Window, following: Window, temporal_stride: int) -> Handover | None:
    """What `window` hands over to the following one; None if they share no frames.

    If the VAE compresses time, the first of these latents spans `temporal_stride` frames, but at the head of the next
    window it takes the position of one that spans a single frame; they are equivalent only with a stride of 1.
    """
    if not following.head:
        return None
    offset = following.start - window.start
    count = 1 + (following.head - 1) // temporal_stride
    first = -(-offset // temporal_stride)  # the latent frame that ends with the first shared frame
    frames = edited.frames[offset : offset + following.head]
    return Handover(frames.clone(), edited.latents[:, :, first : first + count].clone())


def fade(before: Tensor, after: Tensor, overlap: int) -> Tensor:
    """Cross-fade the shared frames of two windows, uint8 [O, H, W, 3] each, over the last `overlap` of them.

    The first of these is still `before`, so a single shared frame comes from the earlier window, as in the paper.
    """
    kept = len(before) - overlap
    weight = (torch.arange(overlap) / max(overlap, 1)).view(-1, 1, 1, 1)
    mixed = torch.lerp(before[kept:].float(), after[kept:].float(), weight)
    return torch.cat([before[:kept], mixed.round().to(torch.uint8)])


def anchor_colour(edited: Tensor, source: Tensor) -> Tensor:
    """Correct the colour drift of an edited frame, measured on its unedited pixels.

    Args:
        edited, source: float [H, W, 3] in [0, 1].

    Returns:
        [H, W, 3]; may exceed [0, 1] by the offset.
    """
    offset = colour_offset(edited, source)
    return edited if offset is None else edited + offset


def colour_offset(edited: Tensor, source: Tensor) -> Tensor | None:
    """The offset that corrects the colour drift of an edited frame, measured on its unedited pixels.

    It is the mean difference per channel over the unedited cells, limited to `LARGEST`. A cell of 8 x 8 pixels is
    unedited if its mean is close to the source's; single pixels would not separate the model's noise from the edit.
    If less than a quarter of the frame is unedited, drift cannot be told from the edit.

    Args:
        edited, source: float [H, W, 3] in [0, 1].

    Returns:
        [3], to be added to the edited frame, or None.
    """
    side = min(CELL, *source.shape[:2])
    difference = F.avg_pool2d((source - edited).permute(2, 0, 1), side, ceil_mode=True)  # [3, H / side, W / side]
    unedited = difference.abs().amax(dim=0) <= UNEDITED
    if unedited.float().mean() < ENOUGH:
        return None
    return difference[:, unedited].mean(dim=1).clamp(-LARGEST, LARGEST)
