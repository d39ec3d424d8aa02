"""Looks: exact functions of all pixels, for edits of tone, style and weather.

Frames are float32 [T, H, W, 3] in [0, 1]. Lengths are fractions of the shorter side, so a look is the same at every
size, and nothing is random, so there is one right answer.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601
_SEPIA = np.array([[0.393, 0.349, 0.272], [0.769, 0.686, 0.534], [0.189, 0.168, 0.131]], np.float32)
_FLAKES = 70


def grayscale(frames: np.ndarray) -> np.ndarray:
    """BT.601 luma of `frames` [..., 3] in all three channels."""
    return np.repeat((frames @ LUMA)[..., None], 3, axis=-1)


def invert(frames: np.ndarray) -> np.ndarray:
    """The photographic negative, 1 - x."""
    return 1 - frames


def sepia(frames: np.ndarray) -> np.ndarray:
    return np.clip(frames @ _SEPIA, 0, 1)


def warmer(frames: np.ndarray) -> np.ndarray:
    return np.clip(frames * np.array([1.18, 1.02, 0.76], np.float32), 0, 1)


def cooler(frames: np.ndarray) -> np.ndarray:
    return np.clip(frames * np.array([0.78, 0.98, 1.2], np.float32), 0, 1)


def brighter(frames: np.ndarray) -> np.ndarray:
    return frames**0.6


def darker(frames: np.ndarray) -> np.ndarray:
    return 0.9 * frames**1.6


def contrast(frames: np.ndarray) -> np.ndarray:
    return np.clip(0.5 + 1.7 * (frames - 0.5), 0, 1)


def night(frames: np.ndarray) -> np.ndarray:
    """Half desaturated, dark and blue."""
    drained = 0.5 * (frames + grayscale(frames))
    return np.clip(drained * np.array([0.22, 0.32, 0.55], np.float32) + np.array([0, 0.01, 0.04], np.float32), 0, 1)


def sketch(frames: np.ndarray) -> np.ndarray:
    """Pencil on paper: luma divided by its surroundings', white where nothing stands out."""
    luma = (frames @ LUMA)[..., None]
    around = blur(luma, 0.02)
    line = np.clip((luma + 0.02) / (around + 0.02), 0, 1)
    return np.repeat(line**1.5, 3, axis=-1)


def posterised(frames: np.ndarray) -> np.ndarray:
    """Four levels in each channel."""
    return np.round(frames * 3) / 3


def cartoon(frames: np.ndarray) -> np.ndarray:
    """Few smooth colours, and dark lines where brightness changes abruptly."""
    smooth = blur(frames, 0.008)
    luma = smooth @ LUMA
    step = min(luma.shape[1:3]) / 128  # as gradients per pixel of a picture of 128
    dy, dx = (np.gradient(luma, axis=axis) * step for axis in (1, 2))
    line = np.clip(np.hypot(dy, dx) / 0.06 - 0.5, 0, 1)[..., None]
    return np.round(smooth * 5) / 5 * (1 - 0.9 * line)


def pixelated(frames: np.ndarray) -> np.ndarray:
    """Squares of a sixteenth of the shorter side, each in its mean colour; the last ones may be cut off."""
    _, height, width, _ = frames.shape
    cell = max(2, round(min(height, width) / 16))
    bottom, right = -height % cell, -width % cell
    padded = np.pad(frames, ((0, 0), (0, bottom), (0, right), (0, 0)), mode="edge")
    rows, columns = padded.shape[1] // cell, padded.shape[2] // cell
    means = padded.reshape(len(frames), rows, cell, columns, cell, 3).mean((2, 4))
    return means.repeat(cell, 1).repeat(cell, 2)[:, :height, :width]


def fog(frames: np.ndarray) -> np.ndarray:
    """A veil of light grey, thicker towards the top, where things are farther away."""
    thick = np.linspace(0.8, 0.4, frames.shape[1], dtype=np.float32)[None, :, None, None]
    return frames + thick * (np.float32(0.78) - frames)


def snow(frames: np.ndarray) -> np.ndarray:
    """A paler, colder picture behind snowflakes that always start at the same positions and fall the same way."""
    count, height, width, _ = frames.shape
    short = min(height, width)
    pale = np.clip(0.75 * (0.6 * frames + 0.4 * grayscale(frames)) + np.array([0.2, 0.215, 0.235], np.float32), 0, 1)
    flakes = np.random.default_rng(7).random((_FLAKES, 4))
    y, x = (np.arange(side, dtype=np.float32) + 0.5 for side in (height, width))
    result = pale.copy()
    for t in range(count):
        for fy, fx, size, drift in flakes:
            cy = (fy + t * (0.012 + 0.012 * size)) % 1.0 * height
            cx = (fx + t * 0.006 * (drift - 0.5)) % 1.0 * width
            radius = (0.008 + 0.012 * size) * short
            top, bottom = max(int(cy - radius) - 1, 0), min(int(cy + radius) + 2, height)
            left, right = max(int(cx - radius) - 1, 0), min(int(cx + radius) + 2, width)
            away = np.hypot((y[top:bottom] - cy)[:, None], (x[left:right] - cx)[None])
            cover = np.clip((radius - away) / (0.006 * short) + 0.5, 0, 0.95)[..., None]
            box = result[t, top:bottom, left:right]
            box += cover * (1 - box)
    return result


LOOKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    look.__name__: look
    for look in (
        grayscale, invert, sepia, warmer, cooler, brighter, darker, contrast, night,
        sketch, posterised, cartoon, pixelated, fog, snow,
    )
}  # fmt: skip


def blur(frames: np.ndarray, share: float) -> np.ndarray:
    """Blur `frames` [T, H, W, C] with a Gaussian whose deviation is `share` of the shorter side; borders repeat."""
    deviation = share * min(frames.shape[1:3])
    reach = max(1, int(np.ceil(3 * deviation)))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    for axis in (1, 2):
        width = [(0, 0)] * 4
        width[axis] = (reach, reach)
        padded, size = np.pad(frames, width, mode="edge"), frames.shape[axis]
        frames = sum(weight * padded.take(range(i, i + size), axis) for i, weight in enumerate(kernel))
    return frames
