"""Tell drawn pictures, which have few colours, from photographs, which have many."""

from __future__ import annotations

import numpy as np

MOST_BITS = 2.8  # 600 pictures of the plain world have at most 2.7, photographs at least 3.0
_LEVELS = 8  # of each channel
_SAMPLES = 128  # pixels sampled along the longer side


def colour_entropy(picture: np.ndarray) -> float:
    """Entropy of a picture's [H, W, 3] colours in [0, 1], in bits per pixel at 8 levels a channel: 0 to 9.

    Levels begin at 0 or half a level lower, whichever gives less, so that a colour between two levels counts once.
    """
    step = -(-max(picture.shape[:2]) // _SAMPLES)
    pixels = picture[::step, ::step].reshape(-1, 3)
    return min(_entropy(np.floor(pixels * _LEVELS + offset).astype(np.int64)) for offset in (0.0, 0.5))


def looks_drawn(picture: np.ndarray) -> bool:
    """True if a picture [H, W, 3] in [0, 1] has no more colours than those of the plain world."""
    return colour_entropy(picture) <= MOST_BITS


def _entropy(levels: np.ndarray) -> float:
    """Entropy in bits of level triples [N, 3] from 0 to 8."""
    _, counts = np.unique(levels @ np.array([81, 9, 1]), return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())
