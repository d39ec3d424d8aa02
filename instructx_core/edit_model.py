"""The steps of an edit, the same for a picture, a batch, a window of a long video, and any model.

source -> canvas -> {MLLM -> guidance, VAE -> source latents} -> sampler -> latents -> VAE -> frames of the canvas
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from .compositing import without_loss
from .detail import sharpened
from .errors import InputError
from .fit import Fit
from .results import check_frames
from .sampling import StepCallback


class EditModel(Protocol):
    """A model together with its request, or with one request for each of a batch of B clips.

    Latents are [B, C, t, h, w] on any device and in the model's own scale: `encode` returns them, `denoise` takes and
    returns them, `decode` takes them. They and the guidance are opaque to everything else.

    Attributes:
        takes_back_loss: whether edits are cleaned, at the cost of one more decode: what the VAE alone does to the
            source is undone, and the edit gets its source's edges (`detail.sharpened`).
    """

    takes_back_loss: bool

    def fit(self, frames: int, size: tuple[int, int]) -> Fit:
        """How frames of (height, width) fit the model's. Raises InputError if they cannot."""

    def read(self, shown: Sequence[Tensor]) -> Any:
        """Make the guidance from B source clips, float [T, H, W, 3] in [0, 1], in the model's size."""

    def encode(self, frames: Tensor) -> Tensor:
        """Float frames [B, T, H, W, 3] in [0, 1] of a canvas -> latents."""

    def denoise(self, source: Tensor, guidance: Any, pinned: Tensor | None, callback: StepCallback | None) -> Tensor:
        """Denoise to the edit's latents.

        Args:
            source: the source's latents.
            guidance: from `read`.
            pinned: latents that the first frames of the result must equal, at most as many as the source's; or None.
            callback: called after each step with its number from 1, the total, and the current latents.

        Raises:
            EditInterrupted: the callback returned False.
        """

    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> float frames [B, T, H, W, 3] in [0, 1] on the CPU."""


@dataclass(frozen=True)
class CanvasEdit:
    """An edit on the canvas, before it is brought to its source's size."""

    canvas: Tensor  # float [B, T, H, W, 3] in [0, 1], the source
    guidance: Any  # of the model that edited
    latents: Tensor  # [B, C, t, h, w]
    decoded: Tensor  # float [B, T, H, W, 3] in [0, 1] on the CPU, the edit


@torch.no_grad()
def edit_canvas(
    model: EditModel,
    sources: Sequence[Tensor],
    fit: Fit,
    guidance: Any = None,
    head: Tensor | None = None,
    pinned: Tensor | None = None,
    callback: StepCallback | None = None,
) -> CanvasEdit:
    """Edit B clips of the same shape.

    Args:
        sources: [T, H, W, 3] each, uint8 or float in [0, 1].
        fit: how each of them fits the model's frames.
        guidance: from an earlier `read`; None reads the sources.
        head: float [k, *canvas, 3], replaces the first frames of the canvas before encoding.
        pinned, callback: see `EditModel.denoise`.

    Raises:
        EditInterrupted: the callback returned False.
        CheckpointError: the model gave NaN, infinity or a single colour.
        InputError: pinned latents of another model.
    """
    canvas = torch.stack([fit.apply(frames) for frames in sources])
    if guidance is None:
        # the MLLM sees the source's own pixels, without the padding and never an already edited head
        guidance = model.read([fit.cut(frames) for frames in canvas])
    seen = canvas if head is None else torch.cat([head[None], canvas[:, len(head) :]], dim=1)
    source = model.encode(seen)
    if pinned is not None and (pinned.shape[1], *pinned.shape[3:]) != (source.shape[1], *source.shape[3:]):
        raise InputError("The latents of a kept window are from another model; delete the folder with the windows.")
    latents = model.denoise(source, guidance, pinned, callback)
    decoded = model.decode(latents)
    for edited, frames in zip(decoded, canvas, strict=True):
        check_frames(edited, frames.cpu())
    if model.takes_back_loss:
        shown = seen.cpu()
        decoded = sharpened(shown, without_loss(shown, model.decode(source), decoded))
    return CanvasEdit(canvas, guidance, latents, decoded)
