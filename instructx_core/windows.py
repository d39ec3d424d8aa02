"""Long video in windows: which frames are edited together, and how one window hands over to the next (A.5).

The edited tail of a window is where the next one begins, so that the next edit continues from what the last one ended
with. A window is *full* when it has the length that was asked for; a model does best at the length it was trained at,
so the last window can be drawn back over frames that are already edited rather than be cut short.

Nothing here needs torch: the command line reads lengths with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from itertools import pairwise
from typing import Literal

from .errors import InputError

USUAL_OVERLAP = 5  # frames: with them joins measure as other frames do (benchmarks/long_video.py joins)
AUTO_CUTS = "auto"
Cuts = tuple[int, ...] | Literal["auto"]  # first frames of new scenes, or the wish to find them in the pictures
LONGEST = 1_000_000  # seconds or frames of a span: a typing mistake, not a window


class Head(str, Enum):
    """How a window is made to begin with what the one before ended with (A.5).

    It begins with the first of the frames that the two share; the others are edited again and faded over.
    """

    PIN = "pin"  # the edited frame, encoded, is held at the head of the noisy latents in every step
    SOURCE = "source"  # the edited frame takes the place of the source's: the paper's way
    LATENT = "latent"  # the latent that the window before ended with is held, without decoding and encoding it


class Reading(str, Enum):
    """What the MLLM sees when it makes the guidance."""

    WINDOW = "window"  # each window by itself
    VIDEO = "video"  # frames of the whole video, once: what appears only later is known from the start


@dataclass(frozen=True)
class Span:
    """A length as a person gives it: in seconds of the video, or in frames."""

    amount: Fraction
    in_seconds: bool = False

    @classmethod
    def parse(cls, text: str) -> Span:
        """Read "5s", "2.5s" (seconds), "33f" or "33" (frames).

        Raises:
            InputError: anything else, among it negative numbers and fractions of a frame.
        """
        trimmed = text.strip().lower()
        in_seconds = trimmed.endswith("s")
        digits = trimmed.removesuffix("s" if in_seconds else "f")
        try:
            amount = Fraction(digits)
        except (ValueError, ZeroDivisionError):
            amount = Fraction(-1)
        if not 0 <= amount <= LONGEST or (amount.denominator != 1 and not in_seconds):
            raise InputError(f"{text!r} is no length of time; give seconds as 5s or 2.5s, or whole frames as 33f.")
        return cls(amount, in_seconds)

    def frames(self, fps: Fraction) -> int:
        """How many frames that is at `fps` frames per second, to the nearest."""
        return round(self.amount * fps) if self.in_seconds else int(self.amount)


def parse_cuts(text: str) -> Cuts:
    """Frame numbers separated by commas: "120,480" -> (120, 480); or "auto", which stays.

    Raises:
        InputError: anything but a whole number above 0.
    """
    if text.strip().lower() == AUTO_CUTS:
        return AUTO_CUTS
    numbers = [part.strip() for part in text.split(",")]
    for number in numbers:
        if not (number.isascii() and number.isdigit() and int(number)):
            raise InputError(
                f"{number!r} is no frame at which a scene begins; give whole numbers above 0, as 120,480, or auto."
            )
    return tuple(map(int, numbers))


@dataclass(frozen=True)
class Window:
    """A span of frames edited in one go."""

    start: int
    stop: int  # exclusive
    head: int  # frames at the beginning that the window before has already edited

    def __len__(self) -> int:
        return self.stop - self.start


def snap(frames: int, multiple: int) -> int:
    """The length 1 + n * `multiple` nearest to `frames`, halves rounded up: what a VAE takes without padding."""
    return 1 + max(0, (2 * (frames - 1) + multiple) // (2 * multiple)) * multiple


def plan_windows(
    frames: int, length: int, overlap: int, *, multiple: int | None = None, cuts: Iterable[int] = ()
) -> list[Window]:
    """Cover `frames` with windows of `length`, each beginning with the `overlap` last frames of the one before.

    Args:
        frames: of the video, >= 1.
        length: of a window; a video or scene that is shorter is one window.
        overlap: frames that two windows share.
        multiple: None leaves the last window as short as the rest is. A number draws it back, in steps of `multiple`
            from the start of the one before (so that both meet on a latent frame), until it is full but for fewer than
            `multiple` frames; its head is then longer than `overlap`.
        cuts: first frames of new scenes; a window never reaches over a cut, and nothing is handed over there.

    Returns:
        Windows in order; each edits at least one new frame, and every frame is new in exactly one.

    Raises:
        InputError: no frames, an overlap that is negative or leaves no new frame in a window, or a cut that is no
            frame of the video after its first.
    """
    if frames < 1:
        raise InputError(f"The video has {frames} frames; give at least one.")
    if length < 1 or not 0 <= overlap < length:
        raise InputError(
            f"window is {length} and overlap {overlap} frames; give an overlap of 0 or more, below the window."
        )
    inner = sorted(set(cuts))
    if inner and not 0 < inner[0] <= inner[-1] < frames:
        wrong = inner[-1] if inner[0] > 0 else inner[0]
        raise InputError(f"cuts: {wrong} is no frame between the first (0) and the last ({frames - 1}) of the video.")
    windows: list[Window] = []
    for first, stop in pairwise([0, *inner, frames]):
        windows += _plan_scene(first, stop, length, overlap, multiple)
    return windows


def _plan_scene(first: int, stop: int, length: int, overlap: int, multiple: int | None) -> list[Window]:
    """The windows from frame `first` to before `stop`."""
    windows = [Window(first, min(first + length, stop), 0)]
    while windows[-1].stop < stop:
        before = windows[-1]
        start = before.stop - overlap
        if multiple is not None and start + length > stop:
            steps = -(-(stop - length - before.start) // multiple)  # rounded up: no frame is left over
            start = min(start, before.start + steps * multiple)
        windows.append(Window(start, min(start + length, stop), before.stop - start))
    return windows


def final_frames(windows: Sequence[Window]) -> list[range]:
    """For each window, the frames that no later one touches: together every frame of the video once, in order.

    They reach from its start to the next one's. A window's head is among them: edited by the window before, it is
    faded into this one (or kept) when this one is done.
    """
    stops = [window.start for window in windows[1:]] + [windows[-1].stop]
    return [range(window.start, stop) for window, stop in zip(windows, stops, strict=True)]
