"""Backgrounds with the statistics of photographs, unlimited and licence-free; and crops of real ones from a folder.

Natural images consist of occluding objects of all sizes (dead leaves: Lee, Mumford and Huang 2001), textures whose
amplitude falls as one over the frequency, smooth light and soft shadows. Clips see a larger still image through a
moving, zooming crop. All backgrounds are float32 [1 or T, H, W, 3] in [0, 1].
"""

from __future__ import annotations

import numpy as np

MARGIN = 1.35  # of the canvas: the area that a moving crop can cover
_BRIGHTEST, _DARKEST = 0.97, 0.03


def sample_ground(
    rng: np.random.Generator, frames: int, height: int, width: int, photographs: str | None = None
) -> np.ndarray:
    """A natural background: still for an image, seen by a moving camera in most clips.

    Args:
        photographs: a folder of pictures that half of the backgrounds are cropped from.

    Raises:
        InputError: as `photographs.draw_photograph`.
    """
    moving = frames > 1 and rng.random() < 0.6
    scale = MARGIN if moving else 1.0
    size = (int(np.ceil(height * scale)), int(np.ceil(width * scale)))
    if photographs is not None and rng.random() < 0.5:
        still = _photograph(rng, *size, photographs)
    else:
        still = _GROUNDS[rng.integers(len(_GROUNDS))](rng, *size)
    still = _develop(rng, still)
    return _moving_crop(rng, still, frames, height, width) if moving else still[None]


def _dead_leaves(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Opaque ellipses and rectangles of all sizes, nearer ones over farther ones, each with its own shading."""
    palette = _palette(rng)
    picture = np.empty((height, width, 3), np.float32)
    picture[:] = palette[0]
    short = min(height, width)
    smallest, largest = rng.uniform(0.025, 0.1) * short, rng.uniform(0.25, 0.6) * short
    count = int(rng.integers(60, 220))
    # radii with density r^-3, by inverse transform sampling; small ones are in front as often as large ones
    u = rng.random(count)
    radii = (smallest**-2 - u * (smallest**-2 - largest**-2)) ** -0.5
    for radius in radii:
        colour = palette[rng.integers(len(palette))] + rng.normal(0, 0.06, 3)
        _leaf(rng, picture, float(radius), colour.astype(np.float32))
    return picture


def _leaf(rng: np.random.Generator, picture: np.ndarray, radius: float, colour: np.ndarray) -> None:
    height, width = picture.shape[:2]
    cy, cx = rng.uniform(0, height), rng.uniform(0, width)
    aspect, turn = rng.uniform(0.4, 1.0), rng.uniform(0, 2 * np.pi)
    top, bottom = max(int(cy - radius) - 1, 0), min(int(cy + radius) + 2, height)
    left, right = max(int(cx - radius) - 1, 0), min(int(cx + radius) + 2, width)
    if top >= bottom or left >= right:
        return
    dy = (np.arange(top, bottom, dtype=np.float32) + 0.5 - cy)[:, None]
    dx = (np.arange(left, right, dtype=np.float32) + 0.5 - cx)[None, :]
    along = np.float32(np.cos(turn)) * dx + np.float32(np.sin(turn)) * dy
    across = (np.float32(np.cos(turn)) * dy - np.float32(np.sin(turn)) * dx) / np.float32(aspect)
    if rng.random() < 0.6:
        signed = np.sqrt(along * along + across * across) - radius
    else:
        signed = np.maximum(np.abs(along), np.abs(across)) - 0.75 * radius
    cover = np.clip(0.5 - signed / np.float32(rng.uniform(0.8, 2.0)), 0, 1)[..., None]
    light = np.float32(rng.uniform(0, 0.12) / radius) * along
    box = picture[top:bottom, left:right]
    box += cover * (colour + light[..., None] - box)


def _fractal(rng: np.random.Generator, height: int, width: int, slope: float) -> np.ndarray:
    """Noise [H, W] with mean 0 and deviation 1 whose amplitude falls as frequency ** -slope."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((height, width))) * frequency**-slope
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, (height, width))
    return (noise / noise.std()).astype(np.float32)


def _clouds(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Two colours mixed by 1 / f noise, with a little more noise over all channels."""
    palette = _palette(rng)
    share = 0.5 + 0.25 * _fractal(rng, height, width, rng.uniform(0.9, 1.8))[..., None]
    picture = palette[0] + np.clip(share, 0, 1) * (palette[1] - palette[0])
    return picture + rng.uniform(0.02, 0.08) * _fractal(rng, height, width, rng.uniform(0.7, 1.3))[..., None]


def _landscape(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Two to four bands under a rough skyline, each with its own gradient and texture."""
    palette = _palette(rng)
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    picture = palette[0] + (palette[1] - palette[0]) * 0.6 * y + np.zeros((1, width, 1), np.float32)
    edges = np.sort(rng.uniform(0.25, 0.9, int(rng.integers(1, 4))))
    for index, edge in enumerate(edges):
        skyline = edge + rng.uniform(0.01, 0.08) * _fractal(rng, 2, width, 1.2)[0]
        colour = palette[(index + 2) % len(palette)] + rng.normal(0, 0.04, 3).astype(np.float32)
        texture = rng.uniform(0.02, 0.09) * _fractal(rng, height, width, rng.uniform(0.6, 1.2))[..., None]
        band = colour + texture + (y - edge) * rng.uniform(-0.3, 0.3)
        cover = np.clip((y[..., 0] - skyline[None]) * height + 0.5, 0, 1)[..., None]
        picture = picture + cover * (band - picture)
    return picture


def _smooth_light(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A wall or a table: a gradient between two similar colours, with faint grain."""
    palette = _palette(rng)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.cos(angle) * np.linspace(-1, 1, width)[None] + np.sin(angle) * np.linspace(-1, 1, height)[:, None]
    share = (0.5 + 0.35 * ramp)[..., None]
    picture = palette[0] + share * rng.uniform(0.2, 1.0) * (palette[1] - palette[0])
    return picture + rng.uniform(0, 0.03) * _fractal(rng, height, width, rng.uniform(0.3, 1.0))[..., None]


_GROUNDS = (_dead_leaves, _dead_leaves, _clouds, _landscape, _smooth_light)


def _palette(rng: np.random.Generator) -> np.ndarray:
    """Three to six colours [n, 3] that go together: mostly muted, light and dark, around one or two hues."""
    count = int(rng.integers(3, 7))
    luma = rng.uniform(0.12, 0.9, (count, 1))
    hue = rng.normal(0, 1, (1, 3)) + rng.uniform(0.2, 1.0) * rng.normal(0, 1, (count, 3))
    hue -= hue.mean(1, keepdims=True)
    hue /= np.abs(hue).max(1, keepdims=True) + 1e-6
    chroma = rng.beta(1.5, 4.0, (count, 1)) * 0.45
    return np.clip(luma + chroma * hue, 0.02, 0.98).astype(np.float32)


def _photograph(rng: np.random.Generator, height: int, width: int, folder: str) -> np.ndarray:
    """A crop of random size and position from a photograph, which is enlarged if smaller than the canvas."""
    from PIL import Image

    from ..photographs import draw_photograph

    picture = Image.fromarray(draw_photograph(rng, folder))
    largest = min(picture.width / width, picture.height / height)
    scale = rng.uniform(min(1.0, largest), largest)
    box_width, box_height = min(width * scale, picture.width), min(height * scale, picture.height)
    left, top = rng.uniform(0, picture.width - box_width), rng.uniform(0, picture.height - box_height)
    box = (left, top, min(left + box_width, picture.width), min(top + box_height, picture.height))
    crop = picture.resize((width, height), Image.Resampling.LANCZOS, box=box)
    pixels = np.asarray(crop, np.float32) / 255
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels


def _develop(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Add soft shadows, a vignette, contrast and grain, as in a camera's picture; float32 in [0, 1]."""
    height, width = picture.shape[:2]
    if rng.random() < 0.4:
        shadow = 1 / (1 + np.exp(-(_fractal(rng, height, width, 2.2) + rng.uniform(-1, 1)) * rng.uniform(1, 4)))
        picture = picture * (1 - rng.uniform(0.15, 0.55) * shadow[..., None])
    if rng.random() < 0.3:
        y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
        picture = picture * (1 - rng.uniform(0.1, 0.35) * (y * y + x * x)[..., None] / 2)
    contrast, mean = rng.uniform(0.75, 1.2), picture.mean()
    picture = mean + contrast * (picture - mean)
    if rng.random() < 0.4:
        picture = picture + rng.normal(0, rng.uniform(0.003, 0.02), (height, width, 1))
    return np.clip(picture, _DARKEST, _BRIGHTEST).astype(np.float32)


def _moving_crop(rng: np.random.Generator, still: np.ndarray, frames: int, height: int, width: int) -> np.ndarray:
    """What a steadily panning and zooming camera sees of `still`: [frames, height, width, 3]."""
    most_y, most_x = still.shape[0] - height, still.shape[1] - width
    pace = min(1.0, 0.03 * (frames - 1))  # share of the margin to use, so that short clips move as fast as long ones
    begin = rng.uniform(0.0, 1.0, 2)
    end = np.clip(begin + rng.uniform(-1, 1, 2) * pace, 0, 1)
    zoom = 1 + rng.uniform(-0.12, 0.12) * pace
    crops = []
    for t in np.linspace(0, 1, frames):
        top, left = (begin + t * (end - begin)) * (most_y, most_x)
        factor = min(1.0, 1 / zoom) * zoom**t  # 1 or less at both ends: the crop stays inside the picture
        y = top + height / 2 + (np.arange(height) + 0.5 - height / 2) * factor - 0.5
        x = left + width / 2 + (np.arange(width) + 0.5 - width / 2) * factor - 0.5
        crops.append(_bilinear(still, y, x))
    return np.stack(crops)


def _bilinear(picture: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """`picture` [H, W, 3] interpolated at rows `y` and columns `x`."""
    y, x = np.clip(y, 0, len(picture) - 1), np.clip(x, 0, picture.shape[1] - 1)
    top, left = np.minimum(y.astype(int), len(picture) - 2), np.minimum(x.astype(int), picture.shape[1] - 2)
    down, right = (y - top).astype(np.float32)[:, None, None], (x - left).astype(np.float32)[None, :, None]
    rows = picture[top] * (1 - down) + picture[top + 1] * down
    return rows[:, left] * (1 - right) + rows[:, left + 1] * right
