"""The input for editing one window: its frames, with the head in place, and a `Turn`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..images import to_floats
from ..windows import Head, Window
from .joining import Handover
from .options import LongOptions


@dataclass(frozen=True, eq=False)
class Turn:
    """What a function is passed about the window that it edits, besides its frames.

    Attributes:
        index: of the window, from 0.
        count: the number of windows.
        window: its position in the video: `start`, `stop` (exclusive), and `head`, the number of frames that the
            previous window has already edited.
        seed: the same in every window: the same noise keeps windows alike.
        tail: those edited frames, float32 [window.head, H', W', 3] in [0, 1] at the function's output size; None if
            the window starts without a head.
        held: the number of leading frames that must stay as in the tail; with Head.SOURCE the given frames already
            contain them. The rest of the tail is faded into the new edit.
    """

    index: int
    count: int
    window: Window
    seed: int = 0
    tail: Tensor | None = None
    held: int = 0


@dataclass(frozen=True)
class Joins:
    """How the windows of an edit start.

    Attributes:
        overlap: frames that two windows share; 0 edits each independently.
        hold_all: hold all shared frames, not only those up to the first that fades.
        multiple: a window is padded with its last frame to 1 + n * this many frames.
    """

    options: LongOptions
    overlap: int
    hold_all: bool = False
    multiple: int = 1

    def begin(
        self, index: int, windows: Sequence[Window], source: Tensor, given: Handover | None, seed: int = 0
    ) -> tuple[Tensor, Turn]:
        """Return a window's frames, float32 [T, H, W, 3] in [0, 1], and its turn.

        The frames are padded to `multiple` and, with Head.SOURCE, begin with the head.

        Args:
            source: float32 [T, H, W, 3] in [0, 1].
            given: handed over by the previous window; None if the window starts without a head.
        """
        frames, tail, held = source, None, 0
        if given is not None and self.overlap:
            tail = to_floats(given.frames)
            held = len(given.frames) - (0 if self.hold_all else self.overlap - 1)
            if self.options.head is Head.SOURCE:
                frames = torch.cat([resized(tail[:held], source), source[held:]])
        filling = -(len(source) - 1) % self.multiple
        if filling:
            frames = torch.cat([frames, frames[-1:].expand(filling, -1, -1, -1)])
        return frames, Turn(index, len(windows), windows[index], seed, tail, held)


def resized(frames: Tensor, like: Tensor) -> Tensor:
    """Resize float frames [T, H', W', 3] to the size of `like`, [T, H, W, 3]."""
    size = tuple(like.shape[1:3])
    if tuple(frames.shape[1:3]) == size:
        return frames
    small = F.interpolate(frames.permute(0, 3, 1, 2), size, mode="bilinear", antialias=True)
    return small.permute(0, 2, 3, 1)
