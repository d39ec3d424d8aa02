"""One window of a video after the other, by any model, each with a head that is given.

source frames, head -> `edit_canvas` -> frames at the source's size, corrected in colour, faded into the window before
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import Tensor

from ..compositing import composite, on_canvas, restored_frames
from ..edit_model import CanvasEdit, edit_canvas
from ..fit import Fit
from ..guidance.frames import sample_indices
from ..images import to_floats, to_uint8
from ..sampling import StepCallback
from ..windows import Head, Reading, Window
from .footage import Footage
from .joining import EditedWindow, Handover, anchor_colour, fade
from .options import LongOptions
from .store import WindowSize
from .turn import Joins
from .window_model import WindowModel


class WindowEditor:
    """Edits windows one after the other. What all of them share is computed once."""

    def __init__(self, model: WindowModel, options: LongOptions, overlap: int) -> None:
        """overlap: frames that two windows share; 0 edits each by itself."""
        self.model = model
        self.options = options
        self.overlap = overlap
        self._whole: Any = None  # guidance that all windows share

    @property
    def temporal_stride(self) -> int:
        return self.model.temporal_stride

    @torch.no_grad()
    def prepare(self, footage: Footage) -> None:
        """Make the guidance of all windows from frames of the whole video, where the options ask for that."""
        if self.options.reading is Reading.WINDOW:
            return
        indices = sample_indices(len(footage.pts), self.model.read_frames).tolist()
        frames = torch.cat(list(footage.read(Window(index, index + 1, 0) for index in indices)))
        fit = self.model.fit(len(frames), tuple(frames.shape[1:3]))
        self._whole = self.model.read([fit.cut(fit.apply(frames))])

    def meet(self, edited: EditedWindow) -> None:
        """Nothing is learnt from a window of an earlier run."""

    def edit_window(
        self,
        index: int,
        windows: Sequence[Window],
        frames: Tensor,
        given: Handover | None,
        callback: StepCallback | None = None,
    ) -> EditedWindow:
        """See `run.EditsWindows`; raises as `edit`."""
        joins = Joins(self.options, self.overlap, multiple=self.model.frame_multiple)
        model = self.model.at(windows[index], lambda: joins.begin(index, windows, to_floats(frames), given))
        return self.edit(frames, given, callback) if model is self.model else self.edit(frames, given, callback, model)

    def size(self, frames: int, size: tuple[int, int]) -> WindowSize:
        """Sizes of an edited window of `frames` frames of (height, width); for latents only bounds."""
        fit = self.model.fit(frames, size)
        latent_frames = range(1 + (frames - 1) // self.model.temporal_stride, fit.padded_frames + 1)
        return WindowSize((frames, *size), latent_frames, 3 * fit.padded_frames * prod(fit.canvas))

    @torch.no_grad()
    def edit(
        self,
        frames: Tensor,
        given: Handover | None,
        callback: StepCallback | None = None,
        model: WindowModel | None = None,
    ) -> EditedWindow:
        """Edit one window.

        Args:
            frames: uint8 [T, H, W, 3] of the source.
            given: what the window before hands over; None for one that starts afresh.
            callback: as the sampler's.
            model: what edits this window; None for what edits all.

        Raises:
            EditInterrupted: the callback returned False.
            CheckpointError: the model gave NaN, infinity or one colour.
            InputError: the latents that are given are another model's.
        """
        model = model or self.model
        mask = model.mask
        fit = model.fit(len(frames), tuple(frames.shape[1:3]))
        handed = given.head(self.overlap, self.model.temporal_stride) if given is not None and self.overlap else None
        head, pinned = self._begin(handed, fit)
        edits = model if mask is None else model.within(on_canvas(mask, fit))
        edit = edit_canvas(edits, [frames], fit, self._whole, head, pinned, callback)
        edited = self._finish(frames, edit, fit)
        if mask is not None:
            for index, whole in enumerate(edited):  # floats of a whole window would be many times its size
                source, own = to_floats(frames[index, None]), mask[index, None] if len(mask) > 1 else mask
                whole.copy_(to_uint8(composite(source, to_floats(whole[None]), own))[0])
        if given is not None:
            shared = len(given.frames)
            edited[:shared] = fade(given.frames, edited[:shared], self.overlap)
        return EditedWindow(edited, edit.latents.float().cpu())

    def _begin(self, handed: Handover | None, fit: Fit) -> tuple[Tensor | None, Tensor | None]:
        """The frames that take the place of the source's first, and the latents that its first frames are pinned to."""
        if handed is None:
            return None, None
        if self.options.head is Head.LATENT:
            return None, handed.latents
        count = len(handed.frames)
        head = replace(fit, frames=count, padded_frames=count).apply(handed.frames)
        return (head, None) if self.options.head is Head.SOURCE else (None, self.model.encode(head[None]))

    def _finish(self, source: Tensor, edit: CanvasEdit, fit: Fit) -> Tensor:
        """The frames of the canvas -> uint8 [T, H, W, 3] at the source's size, one by one.

        No pixel is kept for having hardly changed: how strong an edit is would be another number in each window.
        """
        edits = restored_frames(fit, source, edit.canvas[0].cpu(), edit.decoded[0], 0.0, self.options.detail)
        finished = torch.empty_like(source)
        for index, pixels in enumerate(edits):
            if self.options.anchor_colour:
                pixels = anchor_colour(pixels, to_floats(source[index]))
            finished[index] = to_uint8(pixels)
        return finished
