"""One instruction over the windows of a video: the Editor's parts, with a head that is given.

source frames -> canvas -> {MLLM -> context, VAE -> source latents}; head -> pinned latents or source frames;
all -> sampler -> VAE -> frames at the source's size, corrected in colour, faded into the window before
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..denoiser import Conditions
from ..fit import repeat_last
from ..images import to_uint8
from ..sampling import StepCallback, initial_noise, sample
from ..source import Source
from .joining import EditedWindow, Handover, anchor_colour, fade
from .options import Head, LongOptions

if TYPE_CHECKING:
    from ..editor import Editor, Settings
    from ..fit import Fit


@dataclass(frozen=True)
class Request:
    """What is asked for, checked, with the checkpoint's defaults filled in."""

    instruction: str
    references: tuple[Tensor, ...]  # float [H, W, 3] in [0, 1] each
    settings: Settings
    seed: int
    height: int | None
    width: int | None


class WindowEditor:
    """Edits windows one after the other. What all of them share is computed once."""

    def __init__(self, editor: Editor, request: Request, options: LongOptions, overlap: int) -> None:
        """overlap: frames that two windows share; 0 edits each by itself."""
        self.editor = editor
        self.request = request
        self.options = options
        self.overlap = overlap
        self._whole: tuple[Tensor, Tensor | None] | None = None  # contexts that all windows share
        self._references: tuple[Tensor, ...] | None = None

    @property
    def temporal_stride(self) -> int:
        """Frames that a latent frame spans."""
        return self.editor.codec.temporal_stride

    def check(self, height: int, width: int) -> None:
        """Raise InputError where the request's own height and width do not suit the model or frames of this size."""
        self._fit(torch.empty(1, height, width, 0))

    @torch.no_grad()
    def read_once(self, frames: Sequence[Tensor]) -> None:
        """Make the guidance of all windows from these frames of the whole video, uint8 [H, W, 3] each."""
        fit = self._fit(torch.stack(tuple(frames)))
        self._whole = self._contexts(_to_canvas(frames, fit), fit)

    @torch.no_grad()
    def edit(self, frames: Tensor, given: Handover | None, callback: StepCallback | None = None) -> EditedWindow:
        """Edit one window.

        Args:
            frames: uint8 [T, H, W, 3] of the source.
            given: what the window before hands over; None for one that starts afresh.
            callback: as the sampler's.

        Raises:
            EditInterrupted: the callback returned False.
        """
        fit = self._fit(frames)
        canvas = _to_canvas(frames, fit)
        context, without = self._whole or self._contexts(canvas, fit)
        head = given if self.overlap else None
        source, pinned = self._begin(canvas, head, fit)
        conditions = Conditions(context, source, self._reference_latents(fit))
        unconditional = None if without is None else replace(conditions, context=without)
        noise = initial_noise((1, *self.editor.latent_shape(fit)), self.request.seed).to(self.editor.device)
        chosen = self.request.settings
        latents = sample(
            self.editor.denoiser,
            noise,
            conditions,
            chosen.steps,
            chosen.shift,
            chosen.guidance_scale,
            unconditional,
            callback,
            self.editor.config.sampling.sigma_min,
            pinned,
        )
        decoded = self.editor.decode(latents)[0]
        edited = torch.stack([self._finish(*pair, fit) for pair in zip(decoded[: len(frames)], frames, strict=True)])
        if given is not None:
            shared = len(given.frames)
            edited[:shared] = fade(given.frames, edited[:shared], self.overlap)
        return EditedWindow(edited, latents.cpu())

    def _begin(self, canvas: Tensor, head: Handover | None, fit: Fit) -> tuple[Tensor, Tensor | None]:
        """Source latents, and the latents that the first frames are held at, if any."""
        encode, way = self.editor.encode, self.options.head
        if head is None:
            return encode(canvas[None]), None
        if way is Head.LATENT:
            return encode(canvas[None]), head.latents.to(self.editor.device)
        edited = _to_canvas(head.frames, replace(fit, frames=len(head.frames), padded_frames=len(head.frames)))
        if way is Head.SOURCE:
            return encode(torch.cat([edited, canvas[len(edited) :]])[None]), None
        return encode(canvas[None]), encode(edited[None])

    def _contexts(self, canvas: Tensor, fit: Fit) -> tuple[Tensor, Tensor | None]:
        """With the instruction and, where classifier-free guidance asks for it, without."""
        # the MLLM sees the source's own pixels, not those repeated around them, and never a head that is edited already
        shown = canvas[: fit.frames, : fit.inner[0], : fit.inner[1]]
        request = self.request

        def read(instruction: str) -> Tensor:
            return self.editor.context([instruction], [shown], [request.references], True)

        return read(request.instruction), None if request.settings.guidance_scale == 1 else read("")

    def _reference_latents(self, fit: Fit) -> tuple[Tensor, ...]:
        if self._references is None:  # all windows have the same canvas
            self._references = self.editor.reference_latents([self.request.references], fit)
        return self._references

    def _fit(self, frames: Tensor) -> Fit:
        # only their shape counts
        return self.editor.fit(Source(frames, is_video=True), self.request.height, self.request.width)

    def _finish(self, decoded: Tensor, source: Tensor, fit: Fit) -> Tensor:
        """One frame of the canvas -> uint8 [H, W, 3] at the source's size."""
        pixels = _still(fit).restore(decoded[None])[0]
        return to_uint8(anchor_colour(pixels, source.float() / 255) if self.options.anchor_colour else pixels)


def _to_canvas(frames: Iterable[Tensor], fit: Fit) -> Tensor:
    """uint8 frames [H, W, 3] -> float [padded_frames, *canvas, 3], one by one: floats of the full size are large."""
    still = _still(fit)
    return repeat_last(torch.cat([still.apply(frame[None].float() / 255) for frame in frames]), fit.padded_frames)


def _still(fit: Fit) -> Fit:
    """The same for a single frame."""
    return replace(fit, frames=1, padded_frames=1)
