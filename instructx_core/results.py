"""Check that a model's result is a picture at all, once after sampling and once after decoding.

A model whose values overflow gives NaN, and one with damaged weights or config may give a single colour. Neither is
ever saved.
"""

from __future__ import annotations

import torch

from .errors import CheckpointError

ADVICE = "load it in another dtype (float16 overflows easily), leave its LoRA out, or get its weights again"


def check_numbers(values: torch.Tensor, when: str) -> None:
    """Raise CheckpointError if a model gave NaN or infinity.

    Args:
        values: any floats, such as latents.
        when: for the message, such as "while sampling".
    """
    if values.is_meta:  # memory planning runs without data
        return
    # NaN propagates through minimum and maximum, without a copy
    if values.numel() and not all(bool(bound.isfinite()) for bound in values.aminmax()):
        raise CheckpointError(f"The model gave NaN or infinity {when}; {ADVICE}.")


def check_frames(frames: torch.Tensor, source: torch.Tensor) -> None:
    """Raise CheckpointError if an edit has NaN or infinity, or is a single colour though its source is not.

    Removing an object from a plain background rightly leaves one colour: it passes if half of the source has it.

    Args:
        frames: [T, H, W, 3], float in [0, 1] or uint8.
        source: the source's frames, of either type.
    """
    if frames.is_floating_point():
        check_numbers(frames, "while decoding")
    if _is_flat(frames) and not _is_flat(source) and _share_of(frames[0, 0, 0], source) < 0.5:
        raise CheckpointError(f"The model gave one colour everywhere, which is not an edit; {ADVICE}.")


def _is_flat(frames: torch.Tensor) -> bool:
    """Whether all pixels are the same in 8 bits."""
    low, high = frames.amin((0, 1, 2)), frames.amax((0, 1, 2))
    if frames.is_floating_point():
        low, high = (bound.float().mul(255).round() for bound in (low, high))
    return torch.equal(low, high)


def _share_of(colour: torch.Tensor, frames: torch.Tensor) -> float:
    """The share of `frames`' pixels that equal `colour` [3] within 8 of 255 in each channel."""
    bounds = [values.float() * (1 if values.dtype == torch.uint8 else 255) for values in (frames, colour)]
    return ((bounds[0] - bounds[1]).abs() <= 8).all(-1).float().mean().item()
