"""Windows of a long video: which frames are edited together, and how one window continues into the next (A.5).

Each window begins with the edited tail of the one before, so that its edit continues the previous one. A window is
*full* if it has the requested length. Models do best at their training length, so the last window can be moved back
over already edited frames rather than be shorter.

This module must not import torch: the command line parses lengths with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from itertools import pairwise
from typing import Literal

from .errors import InputError
from .words import quoted

USUAL_OVERLAP = 5  # frames: joins then measure like other frames (benchmarks/long_video.py joins)
AUTO_CUTS = "auto"
Cuts = tuple[int, ...] | Literal["auto"]  # first frames of new scenes, or "auto" to detect them
LONGEST = 1_000_000  # seconds or frames of a span; more is a typing mistake
_DECIMAL = re.compile(r"\d+(\.\d+)?|\.\d+", re.ASCII)  # Fraction also reads "1/3", "1e3" and "1_000"
_FRAME = re.compile(r"(?=\d{1,9}$)0*[1-9]\d*", re.ASCII)  # 1 to 9 digits: int() raises beyond 4,300


class Head(str, Enum):
    """How a window is made to continue the one before (A.5).

    Only the first of the frames that the two share is carried over; the others are edited again and cross-faded.
    """

    PIN = "pin"  # the edited frame, encoded, is pinned as the first of the noisy latents in every step
    SOURCE = "source"  # the edited frame replaces the source's: the paper's way
    LATENT = "latent"  # the window before's own latent is pinned, without decoding and encoding it


class Reading(str, Enum):
    """What the MLLM sees when it makes the guidance."""

    WINDOW = "window"  # each window separately
    VIDEO = "video"  # frames of the whole video, once, including what appears only later


@dataclass(frozen=True)
class Span:
    """A length as the user gives it: in seconds of the video, or in frames."""

    amount: Fraction
    in_seconds: bool = False

    @classmethod
    def parse(cls, text: str) -> Span:
        """Read "5s", "2.5s" (seconds), "33f" or "33" (frames).

        Raises:
            InputError: anything else, including negative numbers and fractions of a frame.
        """
        trimmed = text.strip().lower()
        in_seconds = trimmed.endswith("s")
        digits = trimmed.removesuffix("s" if in_seconds else "f").rstrip()
        try:
            amount = Fraction(digits if _DECIMAL.fullmatch(digits) else -1)
        except ValueError:  # thousands of digits
            amount = Fraction(-1)
        if not 0 <= amount <= LONGEST or (amount.denominator != 1 and not in_seconds):
            raise InputError(
                f"{quoted(text)} is not a length; give seconds such as 5s or 2.5s, or whole frames such as 33f."
            )
        return cls(amount, in_seconds)

    def frames(self, fps: Fraction) -> int:
        """The length in frames at `fps` frames per second, rounded."""
        return round(self.amount * fps) if self.in_seconds else int(self.amount)


def parse_cuts(text: str) -> Cuts:
    """Parse frame numbers separated by commas: "120,480" -> (120, 480); "auto" is returned unchanged.

    Raises:
        InputError: anything but positive integers.
    """
    if text.strip().lower() == AUTO_CUTS:
        return AUTO_CUTS
    numbers = [part.strip() for part in text.split(",")]
    for number in numbers:
        if not _FRAME.fullmatch(number):
            raise InputError(
                f"{quoted(number)} is not the first frame of a scene; give whole numbers above 0, such as 120,480, or "
                "auto."
            )
    return tuple(map(int, numbers))


@dataclass(frozen=True)
class Window:
    """A span of frames edited in one run."""

    start: int
    stop: int  # exclusive
    head: int  # first frames, which the window before has already edited

    def __len__(self) -> int:
        return self.stop - self.start


def snap(frames: int, multiple: int) -> int:
    """The length 1 + n * `multiple` nearest to `frames`, halves rounded up, which a VAE takes without padding."""
    return 1 + max(0, (2 * (frames - 1) + multiple) // (2 * multiple)) * multiple


def plan_windows(
    frames: int, length: int, overlap: int, *, multiple: int | None = None, cuts: Iterable[int] = ()
) -> list[Window]:
    """Cover `frames` with windows of `length`, each beginning with the last `overlap` frames of the one before.

    Args:
        frames: of the video, >= 1.
        length: of a window; a shorter video or scene is one window.
        overlap: frames that two windows share.
        multiple: None leaves the last window as short as the remainder. A number moves its start back, in steps of
            `multiple` from the start of the one before (so that both meet on a latent frame), until it is full or fewer
            than `multiple` frames short; its head is then longer than `overlap`.
        cuts: first frames of new scenes; no window crosses a cut, and nothing is carried over it.

    Returns:
        Windows in order; each edits at least one new frame, and every frame is new in exactly one.

    Raises:
        InputError: no frames, an overlap that is negative or leaves no new frame in a window, or a cut outside the
            video or at its first frame.
    """
    if frames < 1:
        raise InputError(f"The video has {frames} frames; give at least one.")
    if length < 1 or not 0 <= overlap < length:
        raise InputError(
            f"window is {length} and overlap {overlap} frames; give an overlap of at least 0 and less than the window."
        )
    inner = sorted(set(cuts))
    if inner and not 0 < inner[0] <= inner[-1] < frames:
        wrong = inner[-1] if inner[0] > 0 else inner[0]
        raise InputError(f"cuts: {wrong} is outside the video, whose scenes can begin at frames 1 to {frames - 1}.")
    windows: list[Window] = []
    for first, stop in pairwise([0, *inner, frames]):
        windows += _plan_scene(first, stop, length, overlap, multiple)
    return windows


def _plan_scene(first: int, stop: int, length: int, overlap: int, multiple: int | None) -> list[Window]:
    """The windows from frame `first` up to but excluding `stop`."""
    windows = [Window(first, min(first + length, stop), 0)]
    while windows[-1].stop < stop:
        before = windows[-1]
        start = before.stop - overlap
        if multiple is not None and start + length > stop:
            steps = -(-(stop - length - before.start) // multiple)  # rounded up, to reach the last frame
            start = min(start, before.start + steps * multiple)
        windows.append(Window(start, min(start + length, stop), before.stop - start))
    return windows


def final_frames(windows: Sequence[Window]) -> list[range]:
    """For each window, the frames that no later one changes: together every frame of the video once, in order.

    They run from its start to the next one's start. They include its head: edited by the window before, it is faded
    into this one (or kept) when this one is done.
    """
    stops = [window.start for window in windows[1:]] + [windows[-1].stop]
    return [range(window.start, stop) for window, stop in zip(windows, stops, strict=True)]
