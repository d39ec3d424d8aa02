"""What a long edit asks of whatever edits: the seam between the loop over windows and a model.

The library's own side of it is `editor_model.EditorModel`. A host program whose models are not this library's
(ComfyUI's MODEL and VAE) brings its own, and gets windows, joins, finished windows on the disk and files from here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from ..fit import Fit
from ..sampling import StepCallback


class WindowModel(Protocol):
    """One instruction with its references, settings and seed, for any number of windows.

    Latents are [1, C, t, h, w] on any device and in the model's own scale: what `encode` gives, `denoise` takes and
    gives, and `decode` takes. Nothing else looks into them, or into what `read` gives.

    Attributes:
        default_frames: the length that it was trained at.
        temporal_stride: frames that a latent frame spans, the first excepted, which spans one.
        frame_multiple: it takes clips of 1 + n * this many frames.
        read_frames: how many frames of a video its MLLM looks at.
    """

    default_frames: int
    temporal_stride: int
    frame_multiple: int
    read_frames: int

    def fit(self, frames: int, size: tuple[int, int]) -> Fit:
        """How frames of (height, width) lie in the model's. Raises InputError where they cannot."""

    def read(self, shown: Tensor) -> Any:
        """The guidance from float frames [T, H, W, 3] in [0, 1] of the source, in the model's size."""

    def encode(self, frames: Tensor) -> Tensor:
        """Float frames [T, H, W, 3] in [0, 1] of a canvas -> latents."""

    def denoise(
        self, source: Tensor, pinned: Tensor | None, guidance: Any, fit: Fit, callback: StepCallback | None
    ) -> Tensor:
        """Edit.

        Args:
            source: latents of what is edited.
            pinned: latents of no more frames, which the first ones of the result are to be; None for none.
            guidance: from `read`.
            fit: of the window.
            callback: called after each step with its number from 1, how many there are, and latents to look at.

        Raises:
            EditInterrupted: the callback returned False.
        """

    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> float frames [T, H, W, 3] in [0, 1] on the CPU."""

    def identity(self) -> dict[str, Any]:
        """All that edited pixels depend on beside source and options, as JSON under names that a person can read."""


def digest_frames(images: Sequence[Tensor]) -> list[str]:
    """SHA-256 of each float image [H, W, 3], in hexadecimal: references in an identity."""
    plain = (f"{list(image.shape)}".encode() + image.float().cpu().contiguous().numpy().tobytes() for image in images)
    return [hashlib.sha256(values).hexdigest() for values in plain]
