"""How windows are joined: what one hands to the next, the fade between two, and colour that stays the source's.

What is handed over is what is written: 8-bit frames, joined and corrected. An edit that continues from windows on the
disk therefore starts from exactly the same numbers as one that was never interrupted.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..windows import Window

CELL = 8  # pixels
UNEDITED = 0.06  # what a VAE and a sampler change in the mean of a cell that is not edited, of [0, 1]
ENOUGH = 0.25  # share of a frame that must be unedited to tell how its colour drifts
LARGEST = 4 / 255  # correction of a frame: drift of one window is small, and a faint edit must not be undone


@dataclass(frozen=True)
class EditedWindow:
    """One window, done."""

    frames: Tensor  # uint8 [T, H, W, 3] at the source's size
    latents: Tensor  # float32 [1, C, t, h, w] as the sampler left them, on the CPU; see WindowModel for their scale


@dataclass(frozen=True)
class Handover:
    """What a window starts from: the frames that it shares with the one before, which has edited them."""

    frames: Tensor  # uint8 [O, H, W, 3]
    latents: Tensor  # float32 [1, C, o, h, w], the latent frames that contain them

    def head(self, overlap: int, temporal_stride: int) -> Handover:
        """What the window begins with, unchanged: up to the first of the `overlap` frames over which it fades in.

        The others it edits itself, beside this head, so that there are two versions to fade between and the
        fade spreads over them what no head takes away.
        """
        frames = len(self.frames) - overlap + 1
        return Handover(self.frames[:frames], self.latents[:, :, : 1 + (frames - 1) // temporal_stride])


def make_handover(edited: EditedWindow, window: Window, following: Window, temporal_stride: int) -> Handover | None:
    """What `window` hands to the one that follows; None where they share nothing.

    Where the VAE compresses time, the first of the latents spans `temporal_stride` frames and stands, at the head of
    the next window, where one spans a single frame: only with a stride of 1 are they the same thing.
    """
    if not following.head:
        return None
    offset = following.start - window.start
    count = 1 + (following.head - 1) // temporal_stride
    first = -(-offset // temporal_stride)  # the latent frame that ends with the first shared frame
    frames = edited.frames[offset : offset + following.head]
    return Handover(frames.clone(), edited.latents[:, :, first : first + count].clone())


def fade(before: Tensor, after: Tensor, overlap: int) -> Tensor:
    """The shared frames of two windows, uint8 [O, H, W, 3] each: `before` turns into `after` over the last `overlap`.

    The first of these is `before` unchanged, so that a single shared frame is the earlier window's, as in the paper.
    """
    kept = len(before) - overlap
    weight = (torch.arange(overlap) / max(overlap, 1)).view(-1, 1, 1, 1)
    mixed = torch.lerp(before[kept:].float(), after[kept:].float(), weight)
    return torch.cat([before[:kept], mixed.round().to(torch.uint8)])


def anchor_colour(edited: Tensor, source: Tensor) -> Tensor:
    """Move an edited frame's colour back to where the source's is on unedited pixels.

    Args:
        edited, source: float [H, W, 3] in [0, 1].

    Returns:
        [H, W, 3]; it may leave [0, 1] by as much as the offset.
    """
    offset = colour_offset(edited, source)
    return edited if offset is None else edited + offset


def colour_offset(edited: Tensor, source: Tensor) -> Tensor | None:
    """How far an edited frame's colour has drifted from the source's on unedited pixels, to be added to it.

    One offset for each channel: the mean difference over the unedited cells, at most `LARGEST`. A cell of 8 x 8 pixels
    is unedited where its mean is nearly the source's: single pixels would tell a model's noise from the edit badly. A
    frame that is less than a quarter unedited gives None: nothing there tells drift from the edit.

    Args:
        edited, source: float [H, W, 3] in [0, 1].

    Returns:
        [3] or None.
    """
    side = min(CELL, *source.shape[:2])
    difference = F.avg_pool2d((source - edited).permute(2, 0, 1), side, ceil_mode=True)  # [3, H / side, W / side]
    unedited = difference.abs().amax(dim=0) <= UNEDITED
    if unedited.float().mean() < ENOUGH:
        return None
    return difference[:, unedited].mean(dim=1).clamp(-LARGEST, LARGEST)
