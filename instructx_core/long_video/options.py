"""The options of a long edit. Source and output are arguments of `edit_video`."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from ..config import Detail
from ..errors import InputError
from ..request import EditRequest
from ..validation import FieldError, check_fields
from ..windows import AUTO_CUTS, USUAL_OVERLAP, Cuts, Head, Reading, Span, Window, plan_windows, snap


@dataclass(frozen=True)
class LongOptions:
    """How windows are planned and joined.

    Attributes:
        window: its length; None for the length that the checkpoint was trained at. Rounded to the nearest length that
            the VAE takes without padding, 1 + 4 n frames for Wan's.
        overlap: length that two windows share, also rounded to 1 + 4 n frames; if it is more than one frame, the later
            edit fades in over it. 0 edits each window independently; None for 5, or 1 if 5 leaves nothing to edit.
        head: how a window continues from the end of the previous one.
        reading: which frames the guidance is made from.
        anchor_colour: keep the colour of unedited pixels at the source's, so that drift does not accumulate.
        detail: source of the detail if the edit was made on a smaller canvas than its source.
        cuts: first frames of new scenes, at which a window starts without a head; "auto" detects them (cuts.py).

    Raises:
        InputError: a value has the wrong type.
    """

    window: Span | None = None
    overlap: Span | None = None
    head: Head = Head.PIN
    reading: Reading = Reading.WINDOW
    anchor_colour: bool = True
    detail: Detail = Detail.SOURCE
    cuts: Cuts = ()

    def __post_init__(self) -> None:
        try:
            check_fields(self)
        except FieldError as error:
            raise InputError(f"A long edit cannot use these options: {error}.") from error

    def plan(self, frames: int, fps: Fraction, default_length: int, multiple: int) -> tuple[list[Window], int]:
        """Return the windows of a video, and the number of frames that two of them share.

        Args:
            frames, fps: of the video.
            default_length: frames of a window if none is given.
            multiple: the VAE takes 1 + n * this many frames.

        Raises:
            InputError: the window is shorter than one frame, the overlap is not shorter than the window, or cuts are
                outside the video or still "auto".
        """
        if self.cuts == AUTO_CUTS:
            raise InputError("cuts: auto is only for edit_video and edit_footage; give the first frames of scenes.")
        wanted = default_length if self.window is None else self.window.frames(fps)
        length = self.length(fps, default_length, multiple)
        overlap = self._overlap(length, fps, multiple)
        if wanted < 1:
            raise InputError("window is shorter than one frame; give a longer one.")
        if length <= overlap:
            raise InputError(
                f"overlap: {overlap} frames of a window of {length} leave nothing to edit (both are 1 + n * {multiple} "
                "frames); give a shorter overlap or a longer window."
            )
        return plan_windows(frames, length, overlap, multiple=multiple, cuts=self.cuts), overlap

    def length(self, fps: Fraction, default_length: int, multiple: int) -> int:
        """The frames of a window; arguments as in `plan`."""
        return snap(default_length if self.window is None else self.window.frames(fps), multiple)

    def _overlap(self, length: int, fps: Fraction, multiple: int) -> int:
        """The number of frames that windows of `length` frames share."""
        if self.overlap is None:
            usual = snap(USUAL_OVERLAP, multiple)
            return usual if usual < length else 1
        shared = self.overlap.frames(fps)
        return 0 if shared == 0 else snap(shared, multiple)

    def as_plain(self) -> dict[str, object]:
        """The options as JSON values."""
        return {
            "window": _words(self.window),
            "overlap": _words(self.overlap) or f"up to {USUAL_OVERLAP}f",
            "head": self.head.value,
            "reading": self.reading.value,
            "anchor_colour": self.anchor_colour,
            "detail": self.detail.value,
            "cuts": self.cuts if self.cuts == AUTO_CUTS else list(self.cuts),
        }


def check_reading(options: LongOptions, request: EditRequest) -> None:
    """Raise InputError for a list of instructions with guidance from the whole video.

    Their masks would be of the few frames that the MLLM sees of it, too coarse in time to cut a window's from.
    """
    if request.each and options.reading is Reading.VIDEO:
        raise InputError(
            "guidance-from: video takes one sentence, not a list of instructions, whose places are found in each "
            "window; leave it out, or say everything in one sentence."
        )


def _words(span: Span | None) -> str | None:
    return None if span is None else f"{span.amount}{'s' if span.in_seconds else 'f'}"
