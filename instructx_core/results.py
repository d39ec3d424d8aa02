"""Whether a model's result is a picture at all: looked at once after sampling and once after decoding.

A model whose numbers overflow gives NaN, and one whose weights or config are damaged may give one colour everywhere.
Neither is ever saved.
"""

from __future__ import annotations

import torch

from .errors import CheckpointError

ADVICE = "load it in another dtype (float16 overflows easily), leave its LoRA out, or get its weights again"


def check_numbers(values: torch.Tensor, when: str) -> None:
    """Raise CheckpointError where a model gave NaN or infinity.

    Args:
        values: any floats, such as latents.
        when: for the message: "while sampling".
    """
    if values.is_meta:  # of a plan, which runs without numbers
        return
    # NaN goes through minimum and maximum; no copy is made
    if values.numel() and not all(bool(bound.isfinite()) for bound in values.aminmax()):
        raise CheckpointError(f"The model gave NaN or infinity {when}; {ADVICE}.")


def check_frames(frames: torch.Tensor, source: torch.Tensor) -> None:
    """Raise CheckpointError where an edit is NaN somewhere, or one colour everywhere though its source is not.

    An object removed from a plain ground leaves one colour rightly: where half of the source has it already, it passes.

    Args:
        frames: [T, H, W, 3], float in [0, 1] or uint8.
        source: the frames that were edited, in either type.
    """
    if frames.is_floating_point():
        check_numbers(frames, "while decoding")
    if _is_flat(frames) and not _is_flat(source) and _share_of(frames[0, 0, 0], source) < 0.5:
        raise CheckpointError(f"The model gave one colour everywhere, which is no edit; {ADVICE}.")


def _is_flat(frames: torch.Tensor) -> bool:
    """Whether all pixels are the same in 8 bits."""
    low, high = frames.amin((0, 1, 2)), frames.amax((0, 1, 2))
    if frames.is_floating_point():
        low, high = (bound.float().mul(255).round() for bound in (low, high))
    return torch.equal(low, high)


def _share_of(colour: torch.Tensor, frames: torch.Tensor) -> float:
    """How many of the pixels of `frames` are `colour` [3], give or take 8 of 255 in each channel."""
    bounds = [values.float() * (1 if values.dtype == torch.uint8 else 255) for values in (frames, colour)]
    return ((bounds[0] - bounds[1]).abs() <= 8).all(-1).float().mean().item()
