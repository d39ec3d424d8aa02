"""Edit the windows of a long video with any function: another pipeline, a node graph, a filter.

source frames, head -> the function -> checked, colour anchored, 8-bit -> faded into the window before

The function sees only pixels; the loop keeps memory constant, finished windows on disk and joins smooth.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import EditInterrupted, InputError
from ..images import to_floats, to_uint8
from ..sampling import StepCallback, check_seed
from ..version import __version__
from ..windows import Head, Reading, Window
from ..words import shown
from .footage import Footage
from .joining import EditedWindow, Handover, colour_offset, fade
from .options import LongOptions
from .store import WindowSize
from .turn import Joins, Turn, resized

USUAL_LENGTH = 81  # frames, five seconds at 16 fps: the length at which most video models were trained


EditFunction = Callable[[Tensor, Turn], Tensor]


@dataclass(frozen=True, eq=False)
class FrameEdit:
    """A function that edits frames, with what the loop over windows needs to know about it.

    Attributes:
        function: takes float32 frames [T, H, W, 3] in [0, 1] on the CPU and a `Turn`; returns as many frames, float
            [T, H', W', 3] in [0, 1] on any device, with the same size in all windows.
        depends_on: everything besides source, seed and options that its result depends on, as JSON values under
            readable names: model, prompt, settings, versions. Required for keeping finished windows.
        default_frames: the length of a window if none is given.
        frame_multiple: it takes clips of 1 + n * this many frames; a shorter scene is padded with its last frame and
            trimmed after the edit.
        seed: 0 to 2**64 - 1, passed to it.
        hold_all: it must keep all frames that two windows share, as an inpainting model can, instead of only those up
            to the first one that fades.

    Raises:
        InputError: one of these cannot be used.
    """

    function: EditFunction
    depends_on: Mapping[str, Any] | None = None
    default_frames: int = USUAL_LENGTH
    frame_multiple: int = 1
    seed: int = 0
    hold_all: bool = False

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise InputError(f"function is {shown(self.function)}; give a function of frames and a Turn.")
        for name in ("default_frames", "frame_multiple"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise InputError(f"{name} is {shown(value)}; give a whole number of at least 1.")
        check_seed(self.seed)
        try:
            json.dumps(self.depends_on, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"depends_on cannot be stored as JSON ({error}); give texts, numbers and lists."
            ) from error

    def identity(self) -> dict[str, Any]:
        """See `WindowModel.identity`. Raises InputError without `depends_on`."""
        if self.depends_on is None:
            raise InputError(
                "Finished windows can only be kept for an edit that says what it depends on; give FrameEdit(function, "
                'depends_on={"model": ..., "prompt": ...}), or resume=False.'
            )
        versions = {"instructx": __version__, "torch": str(torch.__version__)}
        depends_on = json.loads(json.dumps(self.depends_on))  # as when read back: tuples become lists
        own = {"edit": depends_on, "seed": self.seed, "hold_all": self.hold_all}
        return own | {"frame_multiple": self.frame_multiple, "versions": versions}


class FrameEditor:
    """Edits windows one by one with a function; see `run.EditsWindows`."""

    temporal_stride = 1

    def __init__(self, edit: FrameEdit, options: LongOptions, overlap: int) -> None:
        """overlap: frames that two windows share; 0 edits each independently.

        Raises:
            InputError: options that only a `WindowModel` can follow.
        """
        for value, refused in ((options.head, Head.LATENT), (options.reading, Reading.VIDEO)):
            if value is refused:
                raise InputError(f"{value.value}: not possible with a function that edits frames; leave it out.")
        self.given = edit
        self.options = options
        self.overlap = overlap
        self.joins = Joins(options, overlap, edit.hold_all, edit.frame_multiple)
        self._size: tuple[int, int] | None = None  # of edited frames, known from the first window on

    def prepare(self, footage: Footage) -> None:
        """Does nothing: a function needs no preparation."""

    def size(self, frames: int, size: tuple[int, int]) -> WindowSize | None:
        """The sizes of an edited window of `frames` frames; None until the first one, which may change the size."""
        return None if self._size is None else WindowSize((frames, *self._size), range(frames, frames + 1), frames)

    def meet(self, edited: EditedWindow) -> None:
        """Adopt the frame size of a window from an earlier run for the others."""
        self._size = tuple(edited.frames.shape[1:3])

    @torch.no_grad()
    def edit_window(
        self,
        index: int,
        windows: Sequence[Window],
        frames: Tensor,
        given: Handover | None,
        callback: StepCallback | None = None,
    ) -> EditedWindow:
        """See `run.EditsWindows`.

        Raises:
            EditInterrupted: the callback, called once after each window, returned False.
            InputError: the function returned no valid frames; see `_checked`.
        """
        source = to_floats(frames)
        seen, turn = self.joins.begin(index, windows, source, given, self.given.seed)
        result = self._checked(self.given.function(seen, turn), turn, len(seen))[: len(source)]
        edited = torch.empty(result.shape, dtype=torch.uint8)
        for number, pixels in enumerate(result):
            pixels = pixels.float().cpu()
            if self.options.anchor_colour:
                offset = colour_offset(resized(pixels[None], source)[0], source[number])
                pixels = pixels if offset is None else pixels + offset
            edited[number] = to_uint8(pixels)
        if given is not None:
            shared = len(given.frames)
            edited[:shared] = fade(given.frames, edited[:shared], self.overlap)
        if callback is not None and callback(1, 1, None) is False:
            raise EditInterrupted(f"The edit was stopped after window {index + 1} of {len(windows)}.")
        return EditedWindow(edited, torch.zeros(1, 1, len(edited), 1, 1))

    def _checked(self, result: Tensor, turn: Turn, wanted: int) -> Tensor:
        """The function's result without alpha. Raises InputError unless it holds `wanted` finite float frames of the
        size of earlier windows."""
        where = f"Window {turn.index + 1} of {turn.count}"
        if not isinstance(result, Tensor) or result.ndim != 4 or result.shape[-1] not in (3, 4):
            what = f"{list(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
            raise InputError(f"{where}: the edit gave {what}; it must give frames [{wanted}, H, W, 3].")
        if len(result) != wanted:
            raise InputError(f"{where}: the edit gave {len(result)} frames for {wanted}; it must give the same number.")
        if not result.is_floating_point():
            raise InputError(f"{where}: the edit gave {result.dtype}; it must give floats in [0, 1].")
        size = tuple(result.shape[1:3])
        if self._size not in (None, size):
            raise InputError(
                f"{where}: the edit gave frames of {size[1]} x {size[0]}, earlier windows have "
                f"{self._size[1]} x {self._size[0]}; all windows must have the same size."
            )
        if 0 in size or not all(bool(bound.isfinite()) for bound in result.aminmax()):
            raise InputError(f"{where}: the edit gave NaN, infinity or no pixels; check its model and settings.")
        self._size = size
        return result[..., :3]
