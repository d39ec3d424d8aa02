"""What an edit of one window is told: its frames as they are to be seen, and a `Turn`."""

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
    """What a function gets about the window that it edits, besides its frames.

    Attributes:
        index: of the window, from 0.
        count: how many windows there are.
        window: its frames in the video: `start`, `stop` (exclusive), and `head`, how many the window before has edited.
        seed: the edit's, the same in every window: with the same noise, windows are alike.
        tail: those edited frames, float32 [window.head, H', W', 3] in [0, 1] at the size that the function gives; None
            in a window that starts afresh.
        held: how many frames from the first on are to stay what the tail says, and with Head.SOURCE already are in
            the frames that it is given. Those after them up to `window.head` fade from the tail into the new edit.
    """

    index: int
    count: int
    window: Window
    seed: int = 0
    tail: Tensor | None = None
    held: int = 0


@dataclass(frozen=True)
class Joins:
    """How the windows of an edit begin.

    Attributes:
        overlap: frames that two windows share; 0 edits each by itself.
        hold_all: all shared frames are held, not only the first of those that fade.
        multiple: a window is filled up with its last frame to 1 + n * this many.
    """

    options: LongOptions
    overlap: int
    hold_all: bool = False
    multiple: int = 1

    def begin(
        self, index: int, windows: Sequence[Window], source: Tensor, given: Handover | None, seed: int = 0
    ) -> tuple[Tensor, Turn]:
        """A window's frames, float32 [T, H, W, 3] in [0, 1] with the head in its place, and its turn.

        Args:
            source: float32 [T, H, W, 3] in [0, 1].
            given: what the window before hands over; None for one that starts afresh.
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
    """Float frames [T, H', W', 3] at the size of `like`, [T, H, W, 3]."""
    size = tuple(like.shape[1:3])
    if tuple(frames.shape[1:3]) == size:
        return frames
    small = F.interpolate(frames.permute(0, 3, 1, 2), size, mode="bilinear", antialias=True)
    return small.permute(0, 2, 3, 1)
