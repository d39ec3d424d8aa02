"""One window of a video after the other, by any model, each with a head that is given.

source frames -> canvas -> {MLLM -> guidance, VAE -> source latents}; head -> pinned latents or source frames;
all -> sampler -> VAE -> frames at the source's size, corrected in colour, faded into the window before
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..compositing import restored_frames
from ..errors import InputError
from ..fit import repeat_last
from ..images import to_uint8
from ..results import check_frames
from ..sampling import StepCallback
from ..windows import Head
from .joining import EditedWindow, Handover, anchor_colour, fade
from .options import LongOptions
from .store import WindowSize
from .window_model import WindowModel

if TYPE_CHECKING:
    from ..fit import Fit


class WindowEditor:
    """Edits windows one after the other. What all of them share is computed once."""

    def __init__(self, model: WindowModel, options: LongOptions, overlap: int) -> None:
        """overlap: frames that two windows share; 0 edits each by itself."""
        self.model = model
        self.options = options
        self.overlap = overlap
        self._whole: Any = None  # guidance that all windows share

    @torch.no_grad()
    def read_once(self, frames: Sequence[Tensor]) -> None:
        """Make the guidance of all windows from these frames of the whole video, uint8 [H, W, 3] each."""
        fit = self.model.fit(len(frames), tuple(frames[0].shape[:2]))
        self._whole = self._read(_to_canvas(frames, fit), fit)

    def size(self, frames: int, size: tuple[int, int]) -> WindowSize:
        """What an edited window of so many frames of (height, width) measures; of latents only the bounds are known."""
        fit = self.model.fit(frames, size)
        latent_frames = range(1 + (frames - 1) // self.model.temporal_stride, fit.padded_frames + 1)
        return WindowSize((frames, *size), latent_frames, 3 * fit.padded_frames * prod(fit.canvas))

    @torch.no_grad()
    def edit(self, frames: Tensor, given: Handover | None, callback: StepCallback | None = None) -> EditedWindow:
        """Edit one window.

        Args:
            frames: uint8 [T, H, W, 3] of the source.
            given: what the window before hands over; None for one that starts afresh.
            callback: as the sampler's.

        Raises:
            EditInterrupted: the callback returned False.
            CheckpointError: the model gave NaN, infinity or one colour.
            InputError: the latents that are given are another model's.
        """
        fit = self.model.fit(len(frames), tuple(frames.shape[1:3]))
        canvas = _to_canvas(frames, fit)
        guidance = self._read(canvas, fit) if self._whole is None else self._whole
        held = given.held(self.overlap, self.model.temporal_stride) if given is not None and self.overlap else None
        source, pinned = self._begin(canvas, held, fit)
        latents = self.model.denoise(source, pinned, guidance, fit, callback)
        decoded = self.model.decode(latents)
        check_frames(decoded[: len(frames)], frames)
        edited = self._finish(frames, canvas, decoded, fit)
        if given is not None:
            shared = len(given.frames)
            edited[:shared] = fade(given.frames, edited[:shared], self.overlap)
        return EditedWindow(edited, latents.float().cpu())

    def _begin(self, canvas: Tensor, head: Handover | None, fit: Fit) -> tuple[Tensor, Tensor | None]:
        """Source latents, and the latents that the first frames are held at, if any."""
        encode, way = self.model.encode, self.options.head
        if head is None:
            return encode(canvas), None
        if way is Head.LATENT:
            source = encode(canvas)
            if (head.latents.shape[1], *head.latents.shape[3:]) != (source.shape[1], *source.shape[3:]):
                raise InputError("The latents of a kept window are not this model's; delete the folder of windows.")
            return source, head.latents
        edited = _to_canvas(head.frames, replace(fit, frames=len(head.frames), padded_frames=len(head.frames)))
        if way is Head.SOURCE:
            return encode(torch.cat([edited, canvas[len(edited) :]])), None
        return encode(canvas), encode(edited)

    def _read(self, canvas: Tensor, fit: Fit) -> Any:
        # the MLLM sees the source's own pixels, not those repeated around them, and never a head that is edited already
        return self.model.read(fit.cut(canvas))

    def _finish(self, source: Tensor, canvas: Tensor, decoded: Tensor, fit: Fit) -> Tensor:
        """The frames of the canvas -> uint8 [T, H, W, 3] at the source's size, one by one.

        No pixel is kept for having hardly changed: how strong an edit is would be another number in each window.
        """
        floats = (frame.float() / 255 for frame in source)
        edits = restored_frames(fit, floats, canvas, decoded, 0.0, self.options.detail)
        finished = torch.empty_like(source)
        for index, pixels in enumerate(edits):
            if self.options.anchor_colour:
                pixels = anchor_colour(pixels, source[index].float() / 255)
            finished[index] = to_uint8(pixels)
        return finished


def _to_canvas(frames: Iterable[Tensor], fit: Fit) -> Tensor:
    """uint8 frames [H, W, 3] -> float [padded_frames, *canvas, 3], one by one: floats of the full size are large."""
    still = _still(fit)
    return repeat_last(torch.cat([still.apply(frame[None].float() / 255) for frame in frames]), fit.padded_frames)


def _still(fit: Fit) -> Fit:
    """The same for a single frame."""
    return replace(fit, frames=1, padded_frames=1)
