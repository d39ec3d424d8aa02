"""Scenes: what is in a picture or clip, as immutable values; how they are sampled, and how they are rendered."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from .drawing import REACH, Edge, draw_shape, sample_relief
from .grounds import sample_ground
from .looks import LOOKS, LUMA, blur
from .variety import PLAIN, Variety
from .vocabulary import BACKGROUNDS, COLOURS, GRID, PLACES, SHAPES

RADII = (1 / 8, 3 / 16)  # of the frame's shorter side
ADDED_RADIUS = 0.15
MAX_SPEED = 0.019  # of the shorter side per frame: 1.2 pixels at 64
MAX_TRAVEL = 0.5  # of the shorter side over the clip
_CANDIDATES = 48  # positions tried for one object before giving up on its scene
NATURAL = "natural"  # the name of a background with more than one colour
_SHADOW = (0.06, 0.04)  # down and right, of the shorter side


@dataclass(frozen=True)
class Canvas:
    """The size of a clip; one frame is an image."""

    frames: int
    height: int
    width: int

    @property
    def short(self) -> int:
        """The shorter side in pixels, the unit of radii and speeds."""
        return min(self.height, self.width)


@dataclass(frozen=True)
class Object:
    """A flat-coloured shape that moves in a straight line.

    `radius` and `velocity` (down, right; per frame) are fractions of the frame's shorter side, `start` (y, x) of its
    height and width.
    """

    colour: str
    shape: str
    radius: float
    start: tuple[float, float]
    velocity: tuple[float, float] = (0.0, 0.0)
    tint: tuple[float, float, float] = (0.0, 0.0, 0.0)  # difference from its colour's usual RGB
    turn: float = 0.0  # clockwise, degrees
    light: tuple[float, float] = (0.0, 0.0)  # see `drawing.draw_shape`

    @property
    def rgb(self) -> tuple[float, float, float]:
        return tuple(min(max(c + t, 0.0), 1.0) for c, t in zip(COLOURS[self.colour], self.tint, strict=True))

    def path(self, canvas: Canvas) -> np.ndarray:
        """Centre (y, x) in each frame, in pixels: float64 [T, 2]."""
        start = np.array(self.start) * (canvas.height, canvas.width)
        return start + np.arange(canvas.frames)[:, None] * np.array(self.velocity) * canvas.short

    def reach(self, canvas: Canvas) -> float:
        """Radius in pixels of the shape's circumscribed circle."""
        return REACH[self.shape] * self.radius * canvas.short

    def position(self) -> str:
        """Coarse position in the first frame, a word of GRID."""
        row, column = (min(max(int(3 * s), 0), 2) for s in self.start)
        return GRID[row][column]


@dataclass(frozen=True)
class Scene:
    """Objects that never touch, on a background; `effects` are applied to the finished pixels in order.

    `relief` is added to the background's colour (see `drawing.sample_relief`); if `background` is NATURAL, it is the
    whole background. `free` names a place of PLACES that no object crosses. `shadow` is how dark the objects' soft
    shadows are. If `masks` is set, the scene shows only that object, white on black.
    """

    canvas: Canvas
    objects: tuple[Object, ...]
    background: str
    relief: np.ndarray = field(repr=False, compare=False)
    edge: Edge
    effects: tuple[str, ...] = ()
    free: str | None = None
    shadow: float = 0.0
    blurred: bool = False  # the background is out of focus
    masks: Object | None = None


def standing(colour: str, shape: str, place: str) -> Object:
    """The object that an add edit puts at a place of PLACES."""
    return Object(colour, shape, ADDED_RADIUS, PLACES[place])


def _gap(canvas: Canvas) -> float:
    return 0.02 * canvas.short + 1


def is_clear(canvas: Canvas, objects: tuple[Object, ...]) -> bool:
    """True if no two objects come near each other in any frame."""
    paths = [o.path(canvas) for o in objects]
    for i, one in enumerate(objects):
        for j in range(i):
            need = one.reach(canvas) + objects[j].reach(canvas) + _gap(canvas)
            if (((paths[i] - paths[j]) ** 2).sum(-1) < need * need).any():
                return False
    return True


def _identities(rng: np.random.Generator, count: int) -> list[tuple[str, str]]:
    """Distinct (colour, shape) pairs; often all colours, shapes or both differ, so that one word can name an object."""
    colours, shapes = list(COLOURS), list(SHAPES)
    unique_colours, unique_shapes = rng.random(2) < (0.6, 0.5)
    while True:
        c = rng.permutation(len(colours))[:count] if unique_colours else rng.integers(len(colours), size=count)
        s = rng.permutation(len(shapes))[:count] if unique_shapes else rng.integers(len(shapes), size=count)
        pairs = [(colours[i], shapes[j]) for i, j in zip(c, s, strict=True)]
        if len(set(pairs)) == count:
            return pairs


def _place(
    rng: np.random.Generator, canvas: Canvas, colour: str, shape: str, others: tuple[Object, ...]
) -> Object | None:
    """An object at a random position and velocity, clear of `others` in every frame; None if no candidate fits."""
    radius = float(rng.uniform(*RADII))
    size = np.array([canvas.height, canvas.width])
    steps = canvas.frames - 1
    if steps and rng.random() < 0.85:
        speed = min(MAX_SPEED, MAX_TRAVEL / steps) * np.sqrt(rng.random(_CANDIDATES))
        angle = rng.uniform(0, 2 * np.pi, _CANDIDATES)
        velocity = (np.stack([np.sin(angle), np.cos(angle)], 1)) * speed[:, None]
    else:
        velocity = np.zeros((_CANDIDATES, 2))
    margin = (
        radius * canvas.short * (0.6 if steps and rng.random() < 0.15 else 1.0)
    )  # in a few clips the border cuts a shape
    travel = velocity * steps * canvas.short
    low = margin + np.maximum(-travel, 0)
    high = size - margin - np.maximum(travel, 0)
    start = rng.uniform(low, np.maximum(high, low))
    paths = start[:, None] + np.arange(canvas.frames)[:, None] * velocity[:, None] * canvas.short  # [candidates, T, 2]
    fits = np.ones(_CANDIDATES, bool)
    for other in others:
        need = REACH[shape] * radius * canvas.short + other.reach(canvas) + _gap(canvas)
        fits &= (((paths - other.path(canvas)) ** 2).sum(-1) >= need * need).all(-1)
    if not fits.any():
        return None
    i = int(fits.argmax())
    y, x = (start[i] / size).tolist()
    down, right = velocity[i].tolist()
    return Object(colour, shape, radius, (y, x), (down, right))


def _sample_objects(
    rng: np.random.Generator, canvas: Canvas, count: int, obstacles: tuple[Object, ...]
) -> tuple[Object, ...] | None:
    placed: tuple[Object, ...] = ()
    for colour, shape in _identities(rng, count):
        found = _place(rng, canvas, colour, shape, obstacles + placed)
        if found is None:
            return None
        placed += (found,)
    return placed


def _sample_edge(rng: np.random.Generator) -> Edge:
    mode = ("soft", "supersampled", "hard")[int(np.searchsorted((0.5, 0.9), rng.random(), side="right"))]
    return Edge(mode, float(rng.uniform(0.7, 1.4)) if mode == "soft" else 1.0)


def sample_scene(
    rng: np.random.Generator,
    canvas: Canvas,
    *,
    at_least: int = 1,
    free: str | None = None,
    variety: Variety = PLAIN,
) -> Scene:
    """Sample a scene with `at_least` to 3 objects; `free` keeps a place of PLACES clear for an object of any shape."""
    obstacles = () if free is None else (standing("white", "square", free),)
    wanted = max(at_least, int(rng.choice(3, p=(0.25, 0.4, 0.35))) + 1)
    if variety.natural and not at_least and rng.random() < 0.6:
        wanted = 0
    objects = None
    while objects is None:
        for _ in range(3):
            objects = objects or _sample_objects(rng, canvas, wanted, obstacles)
        wanted = max(at_least, wanted - 1)  # a crowded canvas gets fewer objects rather than many more tries
    background = list(BACKGROUNDS)[rng.integers(len(BACKGROUNDS))]
    if variety.natural and (not objects or rng.random() < variety.natural):
        ground = sample_ground(rng, canvas.frames, canvas.height, canvas.width, variety.photographs)
        scene = Scene(canvas, objects, NATURAL, ground, _sample_edge(rng), free=free)
    else:
        relief = sample_relief(rng, canvas.frames, canvas.height, canvas.width)
        scene = Scene(canvas, objects, background, relief, _sample_edge(rng), free=free)
    return _enliven(rng, scene) if variety.lively and rng.random() < variety.lively else scene


def _enliven(rng: np.random.Generator, scene: Scene) -> Scene:
    """Turn, light and tint the objects slightly; some scenes also get soft shadows."""
    objects = []
    for o in scene.objects:
        tint = tuple(rng.normal(0, 0.03, 3).clip(-0.06, 0.06).tolist())
        light = tuple((rng.normal(0, 0.05, 2) * (rng.random() < 0.5)).tolist())
        objects.append(replace(o, tint=tint, light=light, turn=float(rng.uniform(-15, 15) * (rng.random() < 0.5))))
    shadow = float(rng.uniform(0.2, 0.5)) if rng.random() < 0.25 else 0.0
    return replace(scene, objects=tuple(objects), shadow=shadow)


def plain_relief(ground: np.ndarray) -> np.ndarray:
    """What remains of a natural background when painted over: a quarter of its light and shade, within +-.1."""
    light = (ground @ LUMA)[..., None]
    return np.clip(0.25 * (light - light.mean()), -0.1, 0.1)


def render(scene: Scene) -> np.ndarray:
    """Render a scene: float32 [T, H, W, 3] in [0, 1]."""
    canvas = scene.canvas
    if scene.masks is not None:
        return _render_mask(scene, scene.masks)
    ground = np.array(BACKGROUNDS.get(scene.background, (0.0, 0.0, 0.0)), np.float32) + scene.relief
    ground = np.clip(ground, 0, 1)
    if scene.blurred:
        ground = blur(ground, 0.03)
    frames = np.array(np.broadcast_to(ground, (canvas.frames, canvas.height, canvas.width, 3)))
    if scene.shadow:
        for o in scene.objects:
            _cast_shadow(frames, scene, o)
    for o in scene.objects:
        _draw(frames, scene, o, o.rgb)
    for effect in scene.effects:
        frames = LOOKS[effect](frames)
    return np.clip(frames, 0, 1)


def _draw(frames: np.ndarray, scene: Scene, o: Object, rgb: tuple[float, float, float]) -> None:
    radius = o.radius * scene.canvas.short
    draw_shape(frames, o.shape, rgb, o.path(scene.canvas), radius, scene.edge, turn=o.turn, light=o.light)


def _render_mask(scene: Scene, o: Object) -> np.ndarray:
    canvas = scene.canvas
    frames = np.zeros((canvas.frames, canvas.height, canvas.width, 3), np.float32)
    _draw(frames, scene, replace(o, light=(0.0, 0.0)), (1.0, 1.0, 1.0))
    return frames


def _cast_shadow(frames: np.ndarray, scene: Scene, o: Object) -> None:
    """Softly darken the background below and to the right of an object."""
    canvas = scene.canvas
    radius = o.radius * canvas.short
    cover = np.zeros_like(frames)
    path = o.path(canvas) + np.array(_SHADOW) * canvas.short
    draw_shape(cover, o.shape, (1.0, 1.0, 1.0), path, radius, Edge("soft", 0.6 * radius), turn=o.turn)
    frames *= 1 - scene.shadow * cover
