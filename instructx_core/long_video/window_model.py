"""The interface between the loop over windows and a model.

The library's own implementation is `editor_model.EditorModel`. A host program with other models (ComfyUI's MODEL and
VAE) implements it itself, and gets windows, joins, resuming and file output from this package.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import Tensor

from ..edit_model import EditModel
from ..windows import Window
from .turn import Turn

Look = Callable[[], tuple[Tensor, Turn]]  # a window's frames, float32 [T, H, W, 3] in [0, 1], and its turn


class WindowModel(EditModel, Protocol):
    """A model with one request for any number of windows; it edits batches of one clip.

    Attributes:
        default_frames: the length at which it was trained.
        temporal_stride: frames that a latent frame spans, except the first, which spans one.
        frame_multiple: it takes clips of 1 + n * this many frames.
        read_frames: how many frames of a video its MLLM sees.
        mask: where to edit, float [1 or T, H, W] in [0, 1]; T covers the whole video, or only the window in a model
            that `at` returned. None for everywhere.
    """

    default_frames: int
    temporal_stride: int
    frame_multiple: int
    read_frames: int
    mask: Tensor | None

    def at(self, window: Window, look: Look) -> WindowModel:
        """The model for one window: itself, unless mask, reference or instruction differ between windows.

        Args:
            look: returns what a `FrameEdit` function would be passed for this window.
        """

    def within(self, mask: Tensor) -> EditModel:
        """The model restricted to a mask of one window, [1 or padded frames, *canvas]. Called only if it has a mask."""

    def identity(self) -> dict[str, Any]:
        """Everything besides source and options that edited pixels depend on, as JSON values under readable names."""


def digest_frames(images: Sequence[Tensor]) -> list[str]:
    """SHA-256 of each float image [H, W, 3], in hexadecimal, for references in an identity."""
    plain = (f"{list(image.shape)}".encode() + image.float().cpu().contiguous().numpy().tobytes() for image in images)
    return [hashlib.sha256(values).hexdigest() for values in plain]
