"""Test pairs from a renderer that training never sees: Pillow polygons, outlined and shaded, on other backgrounds.

A model that has learnt the world rather than its renderer edits these equally well. Shapes, colours and words are the
world's; outlines, proportions, shading, edges and backgrounds differ. Targets are exact: the scene drawn with the edit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ..world.vocabulary import BACKGROUNDS, COLOURS, PLACES, SHAPES

KINDS = ("recolor", "remove", "add", "replace", "background", "grayscale", "invert")
OVERSAMPLING = 4


@dataclass(frozen=True)
class _Thing:
    colour: str
    shape: str
    y: float
    x: float
    radius: float


@dataclass(frozen=True)
class _Drawing:
    """A scene; `style` seeds how it is drawn: outline, shading, background."""

    ground: str
    things: tuple[_Thing, ...]
    style: int


@dataclass(frozen=True)
class DrawnPair:
    """Source and target float32 [1, size, size, 3] in [0, 1]."""

    source: np.ndarray
    target: np.ndarray
    instruction: str


def draw_pair(seed: int, kind: str, size: int) -> DrawnPair:
    """The pair for these arguments, deterministic; `kind` is one of KINDS."""
    rng = np.random.default_rng([seed, KINDS.index(kind), size])
    spot = list(PLACES)[rng.integers(len(PLACES))]
    drawing = _sample(rng, PLACES[spot] if kind == "add" else None)
    one = drawing.things[0]
    name = f"{one.colour} {one.shape}"
    rest = drawing.things[1:]
    if kind == "recolor":
        colour = _other(rng, COLOURS, {o.colour for o in drawing.things})
        after, words = replace(drawing, things=(replace(one, colour=colour), *rest)), f"make the {name} {colour}"
    elif kind == "remove":
        after, words = replace(drawing, things=rest), f"remove the {name}"
    elif kind == "replace":
        shape = _other(rng, SHAPES, {one.shape})
        after, words = replace(drawing, things=(replace(one, shape=shape), *rest)), f"replace the {name} with a {shape}"
    elif kind == "add":
        colour = _other(rng, COLOURS, {o.colour for o in drawing.things})
        new = _Thing(colour, _other(rng, SHAPES, set()), *PLACES[spot], 0.15)
        article = "an" if colour[0] in "aeiou" else "a"
        after, words = (
            replace(drawing, things=(*drawing.things, new)),
            f"add {article} {colour} {new.shape} in the {spot}",
        )
    elif kind == "background":
        ground = _other(rng, BACKGROUNDS, {drawing.ground})
        after, words = replace(drawing, ground=ground), f"change the background to {ground}"
    else:
        after, words = drawing, {"grayscale": "make it grayscale", "invert": "invert the colors"}[kind]
    source, target = _draw(drawing, size), _draw(after, size)
    if kind == "grayscale":
        target = np.repeat((target @ np.array([0.299, 0.587, 0.114], np.float32))[..., None], 3, -1)
    elif kind == "invert":
        target = 1 - target
    return DrawnPair(source[None], target[None], words)


def _other(rng: np.random.Generator, words: object, taken: set[str]) -> str:
    free = [word for word in words if word not in taken]
    return free[rng.integers(len(free))]


def _sample(rng: np.random.Generator, free: tuple[float, float] | None) -> _Drawing:
    """One to three things of different colours that touch neither each other nor the place to keep free."""
    count = int(rng.integers(1, 4))
    colours = [list(COLOURS)[i] for i in rng.permutation(len(COLOURS))[:count]]
    things: list[_Thing] = []
    while len(things) < count:
        radius = rng.uniform(0.12, 0.19)
        y, x = rng.uniform(radius + 0.02, 0.98 - radius, 2)
        taken = [(o.y, o.x, o.radius) for o in things] + ([(*free, 0.17)] if free else [])
        if all(math.hypot(y - oy, x - ox) > 1.2 * (radius + r) for oy, ox, r in taken):
            things.append(_Thing(colours[len(things)], SHAPES[rng.integers(len(SHAPES))], y, x, radius))
        elif rng.random() < 0.02:  # no room: start over
            things = []
    return _Drawing(list(BACKGROUNDS)[rng.integers(len(BACKGROUNDS))], tuple(things), int(rng.integers(2**31)))


def _draw(drawing: _Drawing, size: int) -> np.ndarray:
    """float32 [size, size, 3] in [0, 1]."""
    rng = np.random.default_rng(drawing.style)
    ground, outline, turn, shine = (
        _ground(rng, drawing.ground, size),
        rng.random() < 0.4,
        rng.uniform(-9, 9),
        rng.random(),
    )
    large = size * OVERSAMPLING
    picture = Image.fromarray((ground * 255).round().astype(np.uint8)).resize((large, large), Image.Resampling.BILINEAR)
    for o in drawing.things:
        corners = [(large * x, large * y) for x, y in _corners(o, turn)]
        mask = Image.new("L", (large, large))
        ImageDraw.Draw(mask).polygon(corners, fill=255)
        rgb = np.array(COLOURS[o.colour])
        ramp = (np.linspace(-1, 1, large)[:, None, None] * 0.06 * shine + rgb).clip(0, 1)
        paint = np.broadcast_to(ramp, (large, large, 3))
        picture.paste(Image.fromarray((paint * 255).astype(np.uint8)), mask=mask)
        if outline:
            dark = tuple(int(150 * channel) for channel in rgb)
            ImageDraw.Draw(picture).line([*corners, corners[0]], fill=dark, width=max(1, large // 110), joint="curve")
    return np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS), np.float32) / 255


def _ground(rng: np.random.Generator, name: str, size: int) -> np.ndarray:
    """A named background colour with a soft light and blotches: float [size, size, 3] in [0, 1]."""
    blotches = Image.fromarray(rng.integers(0, 256, (size // 4, size // 4), np.uint8)).resize((size, size))
    blotches = np.asarray(blotches.filter(ImageFilter.GaussianBlur(size / 24)), np.float32) / 255
    light = np.hypot(*np.meshgrid(*(np.linspace(-1, 1, size) - rng.uniform(-0.8, 0.8) for _ in range(2))))
    ground = (
        np.array(BACKGROUNDS[name]) + (0.06 * (blotches - blotches.mean()) - 0.05 * (light - light.mean()))[..., None]
    )
    return ground.clip(0, 1)


def _corners(o: _Thing, turn: float) -> list[tuple[float, float]]:
    """The outline as (x, y) in shares of the side; triangles and stars are stouter than the world's."""
    count, inner = {"circle": (72, 1.0), "square": (4, 1.0), "triangle": (3, 1.0), "star": (10, 0.5)}[o.shape]
    start = {"square": 45.0}.get(o.shape, 0.0) + turn
    points = []
    for i in range(count):
        radius = o.radius * (inner if i % 2 and o.shape == "star" else 1.0)
        angle = math.radians(start + 360 * i / count)
        points.append((o.x + radius * math.sin(angle), o.y - radius * math.cos(angle)))
    return points
