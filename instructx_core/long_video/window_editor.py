"""Edit the windows of a video one by one with any model, each starting from the head handed over by the previous one.

source frames, head -> `edit_canvas` -> frames at the source's size, colour anchored, faded into the window before
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
    """Edits windows one by one; what all of them share is computed once."""

    def __init__(self, model: WindowModel, options: LongOptions, overlap: int) -> None:
        """overlap: frames that two windows share; 0 edits each independently."""
        self.model = model
        self.options = options
        self.overlap = overlap
        self._whole: Any = None  # guidance that all windows share

    @property
    def temporal_stride(self) -> int:
        return self.model.temporal_stride

    @torch.no_grad()
    def prepare(self, footage: Footage) -> None:
        """With Reading.VIDEO, compute the guidance of all windows from frames of the whole video."""
        if self.options.reading is Reading.WINDOW:
            return
        indices = sample_indices(len(footage.pts), self.model.read_frames).tolist()
        frames = torch.cat(list(footage.read(Window(index, index + 1, 0) for index in indices)))
        fit = self.model.fit(len(frames), tuple(frames.shape[1:3]))
        self._whole = self.model.read([fit.cut(fit.apply(frames))])

    def meet(self, edited: EditedWindow) -> None:
        """Does nothing: the sizes are known without windows of an earlier run."""

    def edit_window(
        self,
        index: int,
        windows: Sequence[Window],
        frames: Tensor,
        given: Handover | None,
        callback: StepCallback | None = None,
    ) -> EditedWindow:
        """See `run.EditsWindows`; raises like `edit`."""
        joins = Joins(self.options, self.overlap, multiple=self.model.frame_multiple)
        model = self.model.at(windows[index], lambda: joins.begin(index, windows, to_floats(frames), given))
        return self.edit(frames, given, callback) if model is self.model else self.edit(frames, given, callback, model)

    def size(self, frames: int, size: tuple[int, int]) -> WindowSize:
        """The sizes of an edited window of `frames` frames of (height, width); only bounds for latents."""
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
            given: handed over by the previous window; None if the window starts without a head.
            callback: see `sampling.StepCallback`.
            model: for this window only; None for the common one.

        Raises:
            EditInterrupted: the callback returned False.
            CheckpointError: the model returned NaN, infinity or a single colour.
            InputError: the latents handed over come from another model.
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
            for index, whole in enumerate(edited):  # one by one: a whole window as floats needs too much memory
                source, own = to_floats(frames[index, None]), mask[index, None] if len(mask) > 1 else mask
                whole.copy_(to_uint8(composite(source, to_floats(whole[None]), own))[0])
        if given is not None:
            shared = len(given.frames)
            edited[:shared] = fade(given.frames, edited[:shared], self.overlap)
        return EditedWindow(edited, edit.latents.float().cpu())

    def _begin(self, handed: Handover | None, fit: Fit) -> tuple[Tensor | None, Tensor | None]:
        """Return frames that replace the source's first ones, and latents to pin the first latent frames to."""
        if handed is None:
            return None, None
        if self.options.head is Head.LATENT:
            return None, handed.latents
        count = len(handed.frames)
        head = replace(fit, frames=count, padded_frames=count).apply(handed.frames)
        return (head, None) if self.options.head is Head.SOURCE else (None, self.model.encode(head[None]))

    def _finish(self, source: Tensor, edit: CanvasEdit, fit: Fit) -> Tensor:
        """Bring the canvas back to the source's size, frame by frame: uint8 [T, H, W, 3].

        Barely changed pixels are not restored from the source: the threshold depends on the strength of the edit, which
        would be estimated differently in each window.
        """
        edits = restored_frames(fit, source, edit.canvas[0].cpu(), edit.decoded[0], 0.0, self.options.detail)
        finished = torch.empty_like(source)
        for index, pixels in enumerate(edits):
            if self.options.anchor_colour:
                pixels = anchor_colour(pixels, to_floats(source[index]))
            finished[index] = to_uint8(pixels)
        return finished
