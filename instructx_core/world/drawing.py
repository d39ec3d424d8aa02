"""Shapes and backgrounds as pixels: coverage of the four shapes, and a background's relief (gradient, texture, noise).

Pixel (i, j) covers the unit square from (i, j); its centre is (i + .5, j + .5). Offsets point down and right, lengths
are in pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# Greatest distance from the centre to the outline, in radii.
REACH = {"circle": 1.0, "square": 0.85 * 2**0.5, "triangle": (0.87**2 + 0.55**2) ** 0.5, "star": 1.0}
_SUBSAMPLES = 3


@dataclass(frozen=True)
class Edge:
    """How an outline is drawn: `soft` (a ramp of `width` pixels), `supersampled`, or `hard`."""

    mode: str
    width: float = 1.0


def _circle(dy: np.ndarray, dx: np.ndarray, r: float) -> np.ndarray:
    return np.sqrt(dy * dy + dx * dx) - r


def _square(dy: np.ndarray, dx: np.ndarray, r: float) -> np.ndarray:
    return np.maximum(np.abs(dy), np.abs(dx)) - 0.85 * r


def _triangle(dy: np.ndarray, dx: np.ndarray, r: float) -> np.ndarray:
    slant = np.hypot(0.87, 1.55)  # the right side runs from (tip) (-r, 0) to (.55 r, .87 r)
    side = (1.55 / slant) * np.abs(dx) - (0.87 / slant) * (dy + r)
    return np.maximum(side, dy - 0.55 * r)


def _reflect(x: np.ndarray, up: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Fold the plane over the line `degrees` clockwise from straight up, onto the side of the upward axis."""
    cos, sin = np.float32(np.cos(np.radians(degrees))), np.float32(np.sin(np.radians(degrees)))
    over = 2 * np.maximum(x * cos - up * sin, 0)
    return x - over * cos, up + over * sin


def _star(dy: np.ndarray, dx: np.ndarray, r: float) -> np.ndarray:
    # The star's ten mirror images fold onto one: a half plane through a tip and the next inner corner.
    x, up = _reflect(np.abs(dx), -dy, 108)
    x, up = _reflect(x, up, 36)
    along_x, along_up = 0.45 * np.sin(np.pi / 5), 0.45 * np.cos(np.pi / 5) - 1
    length = np.hypot(along_x, along_up)
    return (-along_up / length) * np.abs(x) + (along_x / length) * (up - r)


_DISTANCE: dict[str, Callable[[np.ndarray, np.ndarray, float], np.ndarray]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
}


def distance(shape: str, dy: np.ndarray, dx: np.ndarray, radius: float) -> np.ndarray:
    """Signed distance, negative inside, at offsets `dy`, `dx` from the centre; exact at sides, not past corners."""
    return _DISTANCE[shape](dy, dx, radius)


def _turned(dy: np.ndarray, dx: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Offsets in the coordinates of a shape that is turned clockwise."""
    if not degrees:
        return dy, dx
    cos, sin = np.float32(np.cos(np.radians(degrees))), np.float32(np.sin(np.radians(degrees)))
    return cos * dy - sin * dx, sin * dy + cos * dx


def _coverage(shape: str, dy: np.ndarray, dx: np.ndarray, radius: float, edge: Edge, turn: float) -> np.ndarray:
    """Share of each pixel that the shape covers, [T, n, n] in [0, 1], for pixel centres at `dy`, `dx` [T, n]."""
    dy, dx = dy[:, :, None], dx[:, None, :]
    if edge.mode == "supersampled":
        fine = ((np.arange(_SUBSAMPLES) + 0.5) / _SUBSAMPLES - 0.5).astype(np.float32)
        hits = sum(
            (distance(shape, *_turned(dy + down, dx + right, turn), radius) <= 0).view(np.uint8)
            for down in fine
            for right in fine
        )
        return hits * np.float32(1 / _SUBSAMPLES**2)
    signed = distance(shape, *_turned(dy, dx, turn), radius)
    if edge.mode == "hard":
        return (signed <= 0).astype(np.float32)
    return np.clip(0.5 - signed / np.float32(edge.width), 0, 1)


def draw_shape(
    frames: np.ndarray,
    shape: str,
    rgb: tuple[float, float, float],
    path: np.ndarray,
    radius: float,
    edge: Edge,
    *,
    turn: float = 0.0,
    light: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Paint a shape into `frames` [T, H, W, 3] in place, centred in each frame at `path` [T, 2] (y, x; pixels).

    `turn` is clockwise in degrees; `light` (down, right) is the gain in colour over one radius from the centre.
    """
    height, width = frames.shape[1:3]
    reach = REACH[shape] * radius + max(1.5, edge.width)
    size = int(np.ceil(2 * reach)) + 1
    corner = np.floor(path - reach).astype(int)  # only a box around the shape is computed
    offsets = (corner[:, :, None] + np.arange(size) + 0.5 - path[:, :, None]).astype(np.float32)
    covered = _coverage(shape, offsets[:, 0], offsets[:, 1], radius, edge, turn)[..., None]
    colour = np.array(rgb, np.float32)
    for frame, (top, left), cover, (dy, dx) in zip(frames, corner.tolist(), covered, offsets, strict=True):
        y0, y1, x0, x1 = max(top, 0), min(top + size, height), max(left, 0), min(left + size, width)
        if y0 < y1 and x0 < x1:
            box = frame[y0:y1, x0:x1]
            paint = colour
            if any(light):
                gain = (np.float32(light[0]) * dy[:, None] + np.float32(light[1]) * dx[None]) / np.float32(radius)
                paint = np.clip(colour + gain[y0 - top : y1 - top, x0 - left : x1 - left, None], 0, 1)
            box += cover[y0 - top : y1 - top, x0 - left : x1 - left] * (paint - box)


def _gradient(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A linear or radial ramp [H, W] in [-a, a], a up to .1."""
    y = np.linspace(-1, 1, height)[:, None]
    x = np.linspace(-1, 1, width)[None, :]
    if rng.random() < 0.75:
        angle = rng.uniform(0, 2 * np.pi)
        ramp = np.cos(angle) * x + np.sin(angle) * y
    else:
        ramp = np.hypot(x - rng.uniform(-0.5, 0.5), y - rng.uniform(-0.5, 0.5))
        ramp = (ramp - ramp.mean()) * rng.choice([-1, 1])
    return ramp * (rng.uniform(0, 0.1) / np.abs(ramp).max())


def _hats(size: int, knots: int) -> np.ndarray:
    """Linear interpolation from `knots` values to `size` pixels, as a matrix [size, knots]."""
    at = np.linspace(0, knots - 1, size)[:, None]
    return np.maximum(1 - np.abs(at - np.arange(knots)), 0)


def _noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    channels = 3 if rng.random() < 0.4 else 1
    return rng.uniform(-1, 1, (height, width, channels))


def _smooth(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    rows, columns = rng.integers(3, 9, 2)
    knots = rng.uniform(-1, 1, (rows, columns))
    return (_hats(height, rows) @ knots @ _hats(width, columns).T)[..., None]


def _stripes(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    angle, period, phase = rng.uniform(0, np.pi), rng.uniform(3, 16), rng.uniform(0, 2 * np.pi)
    along = np.sin(angle) * np.arange(height)[:, None] + np.cos(angle) * np.arange(width)[None, :]
    wave = np.sin(along * (2 * np.pi / period) + phase)
    return (wave if rng.random() < 0.6 else np.sign(wave))[..., None]


def _checker(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    cell = int(rng.integers(2, 10))
    return (((np.arange(height)[:, None] // cell + np.arange(width)[None, :] // cell) % 2) * 2.0 - 1)[..., None]


def _blank(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return np.zeros((height, width, 1))


_TEXTURES = (_noise, _noise, _smooth, _stripes, _checker, _blank)


def sample_relief(rng: np.random.Generator, frames: int, height: int, width: int) -> np.ndarray:
    """What a background adds to its colour: float32 [1 or T, H, W, 1 or 3].

    The gradient stays within +-.1, texture plus noise within +-.04. The first axis is T only if faint noise (at most
    .01 more) flickers from frame to frame.
    """
    texture = _TEXTURES[rng.integers(len(_TEXTURES))](rng, height, width) * rng.uniform(0.005, 0.03)
    if rng.random() < 0.3:
        texture = texture + _noise(rng, height, width) * rng.uniform(0.002, 0.01)
    relief = (_gradient(rng, height, width)[..., None] + texture).astype(np.float32)[None]
    if frames > 1 and rng.random() < 0.2:
        flicker = rng.random((frames, height, width, 1), dtype=np.float32) * 2 - 1
        relief = relief + flicker * np.float32(rng.uniform(0.002, 0.01))
    return relief
