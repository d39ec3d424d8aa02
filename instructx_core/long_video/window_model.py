"""What a long edit needs from whatever edits: the seam between the loop over windows and a model.

The library's own side of it is `editor_model.EditorModel`. A host program whose models are not this library's
(ComfyUI's MODEL and VAE) brings its own, and gets windows, joins, finished windows on the disk and files from here.
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
    """What edits, with one request, for any number of windows: batches of one clip.

    Attributes:
        default_frames: the length that it was trained at.
        temporal_stride: frames that a latent frame spans, the first excepted, which spans one.
        frame_multiple: it takes clips of 1 + n * this many frames.
        read_frames: how many frames of a video its MLLM looks at.
        mask: where to edit, float [1 or T, H, W] in [0, 1], in the whole video or, of what `at` gives, in its window;
            None for everywhere.
    """

    default_frames: int
    temporal_stride: int
    frame_multiple: int
    read_frames: int
    mask: Tensor | None

    def at(self, window: Window, look: Look) -> WindowModel:
        """What edits one window: itself, unless a mask, a reference or words are another in each.

        Args:
            look: gives what a function in a model's place would get, see `FrameEdit`.
        """

    def within(self, mask: Tensor) -> EditModel:
        """What edits where a mask, [1 or padded frames, *canvas] of one window, says. Asked only of one with a mask."""

    def identity(self) -> dict[str, Any]:
        """All that edited pixels depend on beside source and options, as JSON under names that a person can read."""


def digest_frames(images: Sequence[Tensor]) -> list[str]:
    """SHA-256 of each float image [H, W, 3], in hexadecimal: references in an identity."""
    plain = (f"{list(image.shape)}".encode() + image.float().cpu().contiguous().numpy().tobytes() for image in images)
    return [hashlib.sha256(values).hexdigest() for values in plain]
