"""Whether a picture has the few colours of drawn shapes, or the many of a photograph."""

from __future__ import annotations

import numpy as np

MOST_BITS = 2.8  # 600 pictures of the plain world have 2.7 at most, photographs 3.0 at least
_LEVELS = 8  # of each channel
_SAMPLES = 128  # pixels along the longer side that are looked at


def colour_entropy(picture: np.ndarray) -> float:
    """Bits that a pixel's colour carries at 8 levels a channel, of a picture [H, W, 3] in [0, 1]: 0 to 9.

    Levels begin at 0 or half a level lower, whichever gives less, so that a colour between two levels counts as one.
    """
    step = -(-max(picture.shape[:2]) // _SAMPLES)
    pixels = picture[::step, ::step].reshape(-1, 3)
    return min(_entropy(np.floor(pixels * _LEVELS + offset).astype(np.int64)) for offset in (0.0, 0.5))


def looks_drawn(picture: np.ndarray) -> bool:
    """Whether a picture [H, W, 3] in [0, 1] has no more colours than those of the plain world."""
    return colour_entropy(picture) <= MOST_BITS


def _entropy(levels: np.ndarray) -> float:
    """Of triples of levels [N, 3] from 0 to 8."""
    _, counts = np.unique(levels @ np.array([81, 9, 1]), return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())
