"""The procedural world as footage and experts: it knows every object, mask and edited scene exactly.

World experts receive pixels, like models, and recognise pictures that this world has drawn by their bytes; others, such
as a smeared picture, are unknown to them. Objects stand in for people: an object's pose is the position of its centre.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..world.language import caption, describe_object, name_object, phrase, with_article
from ..world.reading import asked_scene, read_request
from ..world.scenes import Canvas, Object, Scene, is_clear, render, sample_scene
from ..world.triplets import make_rng
from ..world.vocabulary import COLOURS, SHAPES, STYLES, TONES
from .clips import Clip
from .experts import Detection, Experts, Look, Recaption, Restyle, Subject, Task

FPS = Fraction(8)
STREAM = 900  # of random numbers, used by no group of triplets
REMEMBERED = 512  # scenes
COVERED = 0.8  # share of an object that a mask must cover to select it
KINDS: dict[Task, str] = {
    "remove": "remove",
    "add": "add",
    "reference_add": "reference_add",
    "swap": "replace",
    "reference_swap": "reference_swap",
}
STRAY = 8  # of 255: a visible difference


@dataclass(frozen=True)
class Drawing:
    """A drawn scene and the motion of its background (down, right; pixels per frame)."""

    scene: Scene
    pan: tuple[int, int] = (0, 0)


class World:
    """Draws scenes and remembers them by their pixels. As footage: clips by seed; about half of the videos pan."""

    def __init__(self, count: int, frames: int, size: int, seed: int = 0) -> None:
        self.count, self.seed = count, seed
        self.canvas = Canvas(frames, size, size)
        self._shown: OrderedDict[bytes, Drawing] = OrderedDict()

    def keys(self) -> list[str]:
        return [f"world-{self.seed + number:07d}" for number in range(self.count)]

    def name(self, key: str) -> str:
        return key

    def read(self, key: str) -> Clip:
        rng = make_rng(int(key.removeprefix("world-")), STREAM, self.canvas)
        scene, pan = sample_scene(rng, self.canvas), (0, 0)
        if self.canvas.frames > 1 and rng.random() < 0.5:
            pan = tuple((rng.integers(1, 3, 2) * rng.choice([-1, 1], 2)).tolist())
            scene = replace(scene, relief=_panned(scene.relief, self.canvas.frames, pan))
        return Clip(key, self.show(Drawing(scene, pan)), FPS)

    def show(self, shown: Drawing) -> Tensor:
        """Draw a scene: uint8 [T, H, W, 3]. The clip and its first frame can be recognised afterwards."""
        frames = torch.from_numpy((render(shown.scene) * 255).round().astype(np.uint8))
        for known in (frames[:1], frames):
            self._shown[_digest(known)] = shown
            self._shown.move_to_end(_digest(known))
        while len(self._shown) > REMEMBERED:
            self._shown.popitem(last=False)
        return frames

    def recognise(self, frames: Tensor) -> Drawing | None:
        """The drawing that these frames, or this picture, show; None if unknown."""
        return self._shown.get(_digest(frames if frames.ndim == 4 else frames[None]))

    def known(self, frames: Tensor) -> Drawing:
        """Like `recognise`, but raises InputError for what this world has not drawn."""
        if (shown := self.recognise(frames)) is None:
            raise InputError("The world's experts know only the world's own pictures; use other experts for footage.")
        return shown

    def mask(self, shown: Drawing, o: Object, frames: int | None = None) -> Tensor:
        """The pixels of which an object covers at least half: bool [T, H, W]."""
        mask = torch.from_numpy(render(replace(shown.scene, masks=o))[..., 0] >= 0.5)
        return mask if frames is None else mask[:frames]

    def experts(self) -> Experts:
        return Experts(
            describe=WorldDescribe(self),
            judge=WorldJudge(self),
            detect=WorldDetect(self),
            segment=WorldSegment(self),
            erase=WorldErase(self),
            redraw=WorldRedraw(self),
            pose=WorldPose(self),
            animate=WorldAnimate(self),
            flow=WorldFlow(self),
            cuts=WorldCuts(),
        )


@dataclass(frozen=True)
class WorldDescribe:
    """Names objects and phrases edits in the world's language."""

    world: World

    def caption(self, frames: Tensor) -> str:
        return caption(self.world.known(frames).scene)

    def subjects(self, frames: Tensor, most: int) -> Sequence[Subject]:
        scene = self.world.known(frames).scene
        return [_subject(o, scene.canvas) for o in scene.objects[:most]]

    def alternative(self, frames: Tensor, subject: Subject) -> Subject | None:
        scene = self.world.known(frames).scene
        old = _named(scene, subject.simple)
        if old is None:
            return None
        taken = {(o.colour, o.shape) for o in scene.objects}
        pairs = [(c, s) for c in COLOURS for s in SHAPES if c != old.colour and (c, s) not in taken]
        for at in _rng(frames, "alternative").permutation(len(pairs)).tolist():
            new = replace(old, colour=pairs[at][0], shape=pairs[at][1])
            if is_clear(scene.canvas, tuple(new if o is old else o for o in scene.objects)):
                return _subject(new, scene.canvas)
        return None

    def restyle(self, frames: Tensor, look: Look) -> Restyle | None:
        scene, rng = self.world.known(frames).scene, _rng(frames, look)
        if look != "colour":
            names = TONES if look == "tone" else STYLES[:-1]
            return Restyle(phrase(rng, names[rng.integers(len(names))], scene.canvas))
        old = scene.objects[rng.integers(len(scene.objects))]
        taken = {o.colour for o in scene.objects}
        free = [c for c in COLOURS if c not in taken]
        words = phrase(
            rng,
            "recolor",
            scene.canvas,
            name=name_object(rng, old, (scene,)),
            colour=free[rng.integers(len(free))],
            shape=old.shape,
        )
        return Restyle(words, _subject(old, scene.canvas))

    def instruct(self, task: Task, before: Tensor, after: Tensor, old: Subject, new: Subject | None) -> str:
        """The name fits every scene that is recognised; a damaged picture is left to the judge."""
        scenes = [shown.scene for frames in (before, after) if (shown := self.world.recognise(frames))]
        named = next((o for scene in scenes if (o := _named(scene, old.simple))), None)
        if named is None:
            return f"{task} {old.simple}"  # a model would also answer about an object that is not there
        rng = _rng(after, task)
        return phrase(
            rng,
            KINDS[task],
            self.world.canvas,
            name=name_object(rng, named, scenes),
            thing=new.simple if new else old.simple,
            spot=named.position(),
        )

    def recaption(self, frames: Tensor, sentence: str, old: Subject, new: Subject | None) -> Recaption:
        """The simple one is `sentence`; the others describe the object in detail or by its position."""
        scene = self.world.known(frames).scene
        shown = next(one for one in (_named(scene, old.simple), new and _named(scene, new.simple)) if one)
        request = read_request(sentence, scene)
        verb = {"remove": "Remove it", "add": "Add it"}.get(request.kind if request else "", "Replace it")
        other = f" with {with_article(new.simple)}" if new else ""
        where = f"Something is at the {shown.position()} of the picture."
        return Recaption(sentence, f"{verb.split()[0]} {old.detailed}{other}.", f"{where} {verb}{other}.")


@dataclass(frozen=True)
class WorldJudge:
    """Compares an edit with the exact one. An addition is judged backwards: the scene without the added object is
    compared with the source."""

    world: World

    def rate(self, before: Tensor, after: Tensor, sentence: str, reference: Tensor | None) -> Mapping[str, float]:
        shown = reference is not None and self.world.recognise(reference)
        subject = shown.scene.objects[0] if shown else None
        first, last = self.world.recognise(before), self.world.recognise(after)
        if last and (request := read_request(sentence, last.scene)) and request.kind in ("add", "reference_add"):
            colour, shape = (
                (request.colour, request.shape)
                if request.kind == "add"
                else (subject and subject.colour, subject and subject.shape)
            )
            here = [
                o
                for o in last.scene.objects
                if (o.colour, o.shape, o.position()) == (colour, shape, request.spot or o.position())
            ]
            if len(here) == 1:
                rest = tuple(o for o in last.scene.objects if o is not here[0])
                return self._compare(after, before, Drawing(replace(last.scene, objects=rest), last.pan))
        elif first and (request := read_request(sentence, first.scene)):
            asked = asked_scene(request, first.scene, subject)
            if asked is not None:
                return self._compare(before, after, Drawing(asked, first.pan))
        return {"follow": 0.0, "preserve": 0.0, "quality": 0.0}

    def _compare(self, start: Tensor, end: Tensor, truth: Drawing) -> dict[str, float]:
        exact = self.world.show(truth)[: len(end)].int()
        asked = (exact - start.int()).abs().amax(-1)
        wrong = (exact - end.int()).abs().amax(-1)
        region = asked > STRAY
        if not region.any():
            return {"follow": 0.0, "preserve": 10.0, "quality": 10.0}
        done = 1 - (wrong[region] / asked[region]).clamp(0, 1).mean().item()
        stray = (wrong[~region] > STRAY).float().mean().item() if (~region).any() else 0.0
        clean = (wrong[region] <= STRAY).float().mean().item()
        return {"follow": 10 * done, "preserve": 10 * max(0.0, 1 - 20 * stray), "quality": 10 * clean}


@dataclass(frozen=True)
class WorldDetect:
    world: World

    def find(self, picture: Tensor, name: str) -> Sequence[Detection]:
        if (shown := self.world.recognise(picture)) is None or (o := _named(shown.scene, name)) is None:
            return []
        mask = self.world.mask(shown, o, 1)[0]
        if not mask.any():
            return []
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        left, top, right, bottom = (int(v) for v in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        return [Detection((left, top, right, bottom), 1.0)]


@dataclass(frozen=True)
class WorldSegment:
    """Returns the mask of the object whose box overlaps the given one by half, or else the box itself."""

    world: World

    def track(self, frames: Tensor, box: tuple[float, float, float, float]) -> Tensor:
        shown = self.world.recognise(frames)
        for o in shown.scene.objects if shown else ():
            found = WorldDetect(self.world).find(frames[:1], f"{o.colour} {o.shape}")
            if found and _overlap(found[0].box, box) >= 0.5:
                return self.world.mask(shown, o, len(frames))
        mask = torch.zeros(frames.shape[:3], dtype=torch.bool)
        left, top, right, bottom = (round(v) for v in box)
        mask[:, top:bottom, left:right] = True
        return mask


@dataclass(frozen=True)
class WorldErase:
    world: World

    def fill(self, frames: Tensor, mask: Tensor, words: str) -> Tensor:
        shown = self.world.known(frames)
        objects: list[Object] = []
        for o in shown.scene.objects:
            own = self.world.mask(shown, o, len(frames))
            meant = own.any() and (own & mask).sum() >= COVERED * own.sum()
            if meant and words:
                colour, shape = words.split()
                objects.append(replace(o, colour=colour, shape=shape))
            elif not meant:
                objects.append(o)
        return self.world.show(Drawing(replace(shown.scene, objects=tuple(objects)), shown.pan))


@dataclass(frozen=True)
class WorldRedraw:
    world: World

    def edit(self, picture: Tensor, sentence: str) -> Tensor:
        shown = self.world.known(picture)
        request = read_request(sentence, shown.scene)
        asked = request and asked_scene(request, shown.scene)
        if not asked:
            return picture
        return self.world.show(Drawing(asked, shown.pan))[0]

    def portray(self, picture: Tensor, mask: Tensor, name: str) -> Tensor:
        """The object alone on a new background, larger and near the centre."""
        shown, rng = self.world.known(picture), _rng(picture, name)
        o = max(shown.scene.objects, key=lambda o: int((self.world.mask(shown, o, 1)[0] & mask).sum()))
        side = Canvas(1, shown.scene.canvas.short, shown.scene.canvas.short)
        ground = sample_scene(rng, side)
        y, x = rng.uniform(0.45, 0.55, 2).tolist()
        alone = Object(o.colour, o.shape, float(rng.uniform(0.2, 0.35)), (y, x))
        return self.world.show(Drawing(Scene(side, (alone,), ground.background, ground.relief, ground.edge)))[0]


@dataclass(frozen=True)
class WorldPose:
    world: World

    def poses(self, frames: Tensor, mask: Tensor) -> Tensor:
        shown = self.world.known(frames)
        o = max(shown.scene.objects, key=lambda o: int((self.world.mask(shown, o) & mask).sum()))
        path = torch.from_numpy(o.path(shown.scene.canvas))[:, None]
        return torch.cat([path, torch.ones_like(path[..., :1])], -1)


@dataclass(frozen=True)
class WorldAnimate:
    """Draws the picture's scene over time; poses must be those of one of its objects."""

    world: World

    def animate(self, picture: Tensor, frames: Tensor, poses: Tensor | None) -> Tensor:
        shown = self.world.known(picture)
        paths = [o.path(shown.scene.canvas) for o in shown.scene.objects]
        if poses is not None and not any(np.allclose(path, poses[:, 0, :2]) for path in paths):
            raise InputError("The poses match no object in the picture; take them from the picture's own clip.")
        return self.world.show(shown)


@dataclass(frozen=True)
class WorldFlow:
    world: World

    def flow(self, frames: Tensor) -> Tensor:
        shown = self.world.known(frames)
        flow = torch.tensor(shown.pan, dtype=torch.float32).expand(len(frames) - 1, *frames.shape[1:3], 2).clone()
        for o in shown.scene.objects:
            flow[self.world.mask(shown, o)[:-1]] = torch.tensor(o.velocity) * shown.scene.canvas.short
        return flow


class WorldCuts:
    """A clip of the world is one scene."""

    def scenes(self, frames: Tensor) -> Sequence[tuple[int, int]]:
        return [(0, len(frames))]


def _subject(o: Object, canvas: Canvas) -> Subject:
    return Subject(o.shape, f"{o.colour} {o.shape}", describe_object(o, canvas), person=True)


def _named(scene: Scene, name: str) -> Object | None:
    return next((o for o in scene.objects if f"{o.colour} {o.shape}" == name), None)


def _panned(relief: np.ndarray, frames: int, pan: tuple[int, int]) -> np.ndarray:
    moved = [np.roll(relief[at % len(relief)], (at * pan[0], at * pan[1]), (0, 1)) for at in range(frames)]
    return np.stack(moved)


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(wide, 0) * max(high, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def _digest(frames: Tensor) -> bytes:
    return hashlib.sha256(repr(tuple(frames.shape)).encode() + frames.contiguous().numpy().tobytes()).digest()


def _rng(frames: Tensor, use: str) -> np.random.Generator:
    """A generator seeded by the pixels and the use."""
    seed: Any = hashlib.sha256(_digest(frames) + use.encode()).digest()
    return np.random.default_rng(int.from_bytes(seed[:8], "big"))
