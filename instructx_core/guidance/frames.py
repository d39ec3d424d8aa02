"""Choose the frames of a video that the MLLM sees."""

from __future__ import annotations

import torch


def sample_indices(frames: int, count: int) -> torch.Tensor:
    """Evenly spaced frame numbers, including both ends (section 3.2 samples 13).

    Args:
        frames: length of the video, >= 1.
        count: how many to take; a shorter video gives all its frames once.

    Returns:
        int64 [min(frames, count)], increasing.
    """
    taken = min(frames, count)
    if taken == 1:
        return torch.zeros(1, dtype=torch.int64)
    return torch.linspace(0, frames - 1, taken, dtype=torch.float64).round().to(torch.int64)
