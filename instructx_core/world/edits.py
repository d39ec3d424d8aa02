"""Edits: each chooses its object and values on a scene, and gives the scene after it with the words that ask for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from .language import name_object, phrase
from .scenes import Object, Scene, is_clear, standing
from .vocabulary import BACKGROUNDS, COLOURS, SHAPES


@dataclass(frozen=True)
class Step:
    """One edit done: `scene` is the result, `request` the wording, `plan` the canonical form of what changes."""

    kind: str
    scene: Scene
    request: str
    plan: str
    statement: bool  # the wording is a statement ("the circle should be red"), which takes no "can you"
    subject: Object | None = None  # the new object of a reference edit, which its reference image shows


@dataclass(frozen=True)
class Situation:
    """Where an edit is chosen: `scene` as it is now, `original` as the user sees it (the same for a first edit)."""

    rng: np.random.Generator
    scene: Scene
    original: Scene
    statement: bool

    def choose_object(self) -> Object | None:
        """An object that no earlier edit touched."""
        untouched = [o for o in self.scene.objects if o in self.original.objects]
        return untouched[self.rng.integers(len(untouched))] if untouched else None

    def new_pair(self, colours: list[str], shapes: list[str]) -> tuple[str, str] | None:
        """A (colour, shape) out of the given ones that neither the scene nor the original has."""
        taken = {(o.colour, o.shape) for o in (*self.scene.objects, *self.original.objects)}
        pairs = [(c, s) for c in colours for s in shapes if (c, s) not in taken]
        return pairs[self.rng.integers(len(pairs))] if pairs else None

    def name(self, o: Object) -> str:
        """Words that mean this object before and after any earlier edit."""
        return name_object(self.rng, o, (self.original, self.scene))

    def step(
        self, kind: str, scene: Scene | None, plan: str, subject: Object | None = None, **slots: str
    ) -> Step | None:
        """The finished edit in words, or None where there is no `scene`."""
        if scene is None:
            return None
        request = phrase(self.rng, kind, scene.canvas, statement=self.statement, **slots)
        return Step(kind, scene, request, plan, self.statement, subject)


def _exchanged(scene: Scene, old: Object, new: Object | None) -> Scene | None:
    """The scene with `old` replaced or, for None, removed; None where the new object would touch another."""
    objects = tuple(new if o is old else o for o in scene.objects if o is not old or new is not None)
    return replace(scene, objects=objects) if is_clear(scene.canvas, objects) else None


def _recolor(at: Situation) -> Step | None:
    old = at.choose_object()
    pair = old and at.new_pair([c for c in COLOURS if c != old.colour], [old.shape])
    if not pair:
        return None
    colour = pair[0]
    scene = _exchanged(at.scene, old, replace(old, colour=colour))
    return at.step(
        "recolor", scene, f"recolor {_site(old)} to {colour}", name=at.name(old), colour=colour, shape=old.shape
    )


def _remove(at: Situation) -> Step | None:
    old = at.choose_object()
    if not old:
        return None
    return at.step("remove", _exchanged(at.scene, old, None), f"remove {_site(old)}", name=at.name(old))


def _add(at: Situation) -> Step | None:
    new = _newcomer(at)
    if not new:
        return None
    thing = f"{new.colour} {new.shape}"
    return at.step("add", _with(at.scene, new), f"add {thing} at {at.scene.free}", thing=thing, spot=at.scene.free)


def _replace(at: Situation) -> Step | None:
    old = at.choose_object()
    pair = old and at.new_pair([old.colour], [s for s in SHAPES if s != old.shape])
    if not pair:
        return None
    shape = pair[1]
    scene = _exchanged(at.scene, old, replace(old, shape=shape))
    thing = shape if at.rng.random() < 0.85 else f"{old.colour} {shape}"
    return at.step("replace", scene, f"replace {_site(old)} with {shape}", name=at.name(old), thing=thing)


def _background(at: Situation) -> Step | None:
    names = [b for b in BACKGROUNDS if b != at.scene.background]
    name = names[at.rng.integers(len(names))]
    return at.step("background", replace(at.scene, background=name), f"background {name}", colour=name)


def _effect(kind: str) -> Callable[[Situation], Step | None]:
    return lambda at: at.step(kind, replace(at.scene, effects=(*at.scene.effects, kind)), kind)


def _reference_swap(at: Situation) -> Step | None:
    old = at.choose_object()
    pair = old and at.new_pair(list(COLOURS), list(SHAPES))
    if not pair:
        return None
    new = replace(old, colour=pair[0], shape=pair[1])
    scene = _exchanged(at.scene, old, new)
    return at.step("reference_swap", scene, f"replace {_site(old)} with reference", new, name=at.name(old))


def _reference_add(at: Situation) -> Step | None:
    new = _newcomer(at)
    if not new:
        return None
    return at.step("reference_add", _with(at.scene, new), f"add reference at {at.scene.free}", new, spot=at.scene.free)


def _newcomer(at: Situation) -> Object | None:
    """A new object at the free place of the scene."""
    pair = at.new_pair(list(COLOURS), list(SHAPES))
    return standing(*pair, at.scene.free) if pair and at.scene.free else None


def _site(o: Object) -> str:
    return f"{o.colour} {o.shape} at {o.position()}"


def _with(scene: Scene, new: Object) -> Scene:
    return replace(scene, objects=(*scene.objects, new), free=None)


_EDITS: dict[str, Callable[[Situation], Step | None]] = {
    "recolor": _recolor,
    "remove": _remove,
    "add": _add,
    "replace": _replace,
    "background": _background,
    "grayscale": _effect("grayscale"),
    "invert": _effect("invert"),
    "reference_swap": _reference_swap,
    "reference_add": _reference_add,
}


def apply_edit(
    rng: np.random.Generator, kind: str, scene: Scene, original: Scene, *, statement: bool = False
) -> Step | None:
    """Choose and apply an edit of `kind` to `scene`, worded as an imperative or a `statement`; None if it has no room.

    `original` is the scene before any edit: names hold in both, and objects that an earlier edit touched stay as they
    are.
    """
    return _EDITS[kind](Situation(rng, scene, original, statement))
