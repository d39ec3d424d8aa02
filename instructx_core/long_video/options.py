"""How a long video is edited, as a value. What is edited with it, and where to, is for `edit_video`."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from ..errors import InputError
from ..windows import AUTO_CUTS, Cuts, Head, Reading, Span, Window, plan_windows, snap

ONE_FRAME = Span(Fraction(1))


@dataclass(frozen=True)
class LongOptions:
    """How windows are laid and joined.

    Attributes:
        window: of one edit; None for the length that the checkpoint was trained at. Goes to the nearest length that
            the VAE takes as it is, 1 + 4 n frames for Wan's.
        overlap: what two windows share, likewise 1 + 4 n frames; of more than one, the later edit fades in over them.
            0 edits every window by itself.
        head: how a window begins with what the one before ended with.
        reading: what the guidance is made from.
        anchor_colour: keep the colour of unedited pixels at the source's, so that drift does not add up.
        cuts: first frames of new scenes, at which a window starts afresh; "auto" has them found (cuts.py).
    """

    window: Span | None = None
    overlap: Span = ONE_FRAME
    head: Head = Head.PIN
    reading: Reading = Reading.WINDOW
    anchor_colour: bool = True
    cuts: Cuts = ()

    def plan(self, frames: int, fps: Fraction, default_length: int, multiple: int) -> tuple[list[Window], int]:
        """The windows of a video, and the frames that two of them share.

        Args:
            frames, fps: of the video.
            default_length: frames, where no window is given.
            multiple: the VAE takes 1 + n * this many frames.

        Raises:
            InputError: a window of less than one frame, an overlap that is not shorter than the window, or cuts
                outside of the video or not found yet.
        """
        if self.cuts == AUTO_CUTS:
            raise InputError("cuts: they are still to be found; see cuts.with_cuts.")
        wanted = default_length if self.window is None else self.window.frames(fps)
        shared = self.overlap.frames(fps)
        overlap = 0 if shared == 0 else snap(shared, multiple)
        length = snap(wanted, multiple)
        if wanted < 1:
            raise InputError("window: it is shorter than one frame; give a longer one.")
        if length <= overlap:
            raise InputError(
                f"overlap: {overlap} frames of a window of {length} leave nothing to edit (both are 1 + n * {multiple} "
                "frames); give a shorter overlap or a longer window."
            )
        return plan_windows(frames, length, overlap, multiple=multiple, cuts=self.cuts), overlap

    def as_plain(self) -> dict[str, object]:
        """The options as JSON can hold them."""
        return {
            "window": None if self.window is None else _words(self.window),
            "overlap": _words(self.overlap),
            "head": self.head.value,
            "reading": self.reading.value,
            "anchor_colour": self.anchor_colour,
            "cuts": self.cuts if self.cuts == AUTO_CUTS else list(self.cuts),
        }


def _words(span: Span) -> str:
    return f"{span.amount}{'s' if span.in_seconds else 'f'}"
