"""Long video in windows: which frames are edited together, and how one window hands over to the next (A.5).

The edited tail of a window takes the place of the next window's head, so that the next edit begins with what the last
one ended with. Frames that two windows share are taken from the earlier one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .errors import InputError


@dataclass(frozen=True)
class Window:
    """A span of frames edited in one go."""

    start: int
    stop: int  # exclusive
    head: int  # frames at the beginning that the window before has already edited

    def __len__(self) -> int:
        return self.stop - self.start


def plan_windows(frames: int, length: int, overlap: int) -> list[Window]:
    """Cover `frames` with windows of `length`, each beginning with the `overlap` last frames of the one before.

    The last window is shorter where the rest is; each window edits at least one new frame.

    Raises:
        InputError: no frames, or an overlap that is negative or leaves no new frame in a window.
    """
    if frames < 1:
        raise InputError(f"The video has {frames} frames; give at least one.")
    if length < 1 or not 0 <= overlap < length:
        raise InputError(
            f"window is {length} and overlap {overlap} frames; give an overlap of 0 or more, below the window."
        )
    windows = [Window(0, min(length, frames), 0)]
    while windows[-1].stop < frames:
        start = windows[-1].stop - overlap
        windows.append(Window(start, min(start + length, frames), overlap))
    return windows


def replace_head(source: torch.Tensor, tail: torch.Tensor) -> torch.Tensor:
    """A window's source [T, H, W, 3] with its first frames replaced by the edited `tail` [O, H, W, 3] of the last one.

    Raises:
        InputError: a tail longer than the window.
    """
    if len(tail) > len(source):
        raise InputError(f"The tail of {len(tail)} frames is longer than the window of {len(source)}.")
    return torch.cat([tail.to(source), source[len(tail) :]])
