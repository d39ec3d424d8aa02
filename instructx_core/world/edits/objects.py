"""Edits of one object: its colour, shape or presence; with or without a reference that shows a new one."""

from __future__ import annotations

from dataclasses import replace

from ..scenes import Object, Scene, is_clear, standing
from ..vocabulary import COLOURS, SHAPES
from .situation import Situation, Step


def _exchanged(scene: Scene, old: Object, new: Object | None) -> Scene | None:
    """The scene with `old` replaced, or removed if `new` is None; None if the new object would touch another."""
    objects = tuple(new if o is old else o for o in scene.objects if o is not old or new is not None)
    return replace(scene, objects=objects) if is_clear(scene.canvas, objects) else None


def recolor(at: Situation) -> Step | None:
    old = at.choose_object()
    pair = old and at.new_pair([c for c in COLOURS if c != old.colour], [old.shape])
    if not pair:
        return None
    colour = pair[0]
    scene = _exchanged(at.scene, old, replace(old, colour=colour, tint=(0.0, 0.0, 0.0)))
    return at.step(
        "recolor", scene, f"recolor {_site(old)} to {colour}", name=at.name(old), colour=colour, shape=old.shape
    )


def remove(at: Situation) -> Step | None:
    old = at.choose_object()
    if not old:
        return None
    return at.step("remove", _exchanged(at.scene, old, None), f"remove {_site(old)}", name=at.name(old))


def add(at: Situation) -> Step | None:
    new = _newcomer(at)
    if not new:
        return None
    thing = f"{new.colour} {new.shape}"
    return at.step("add", _with(at.scene, new), f"add {thing} at {at.scene.free}", thing=thing, spot=at.scene.free)


def replace_shape(at: Situation) -> Step | None:
    old = at.choose_object()
    pair = old and at.new_pair([old.colour], [s for s in SHAPES if s != old.shape])
    if not pair:
        return None
    shape = pair[1]
    scene = _exchanged(at.scene, old, replace(old, shape=shape))
    thing = shape if at.rng.random() < 0.85 else f"{old.colour} {shape}"
    return at.step("replace", scene, f"replace {_site(old)} with {shape}", name=at.name(old), thing=thing)


def reference_swap(at: Situation) -> Step | None:
    old = at.choose_object()
    pair = old and at.new_pair(list(COLOURS), list(SHAPES))
    if not pair:
        return None
    new = replace(old, colour=pair[0], shape=pair[1], tint=(0.0, 0.0, 0.0))
    scene = _exchanged(at.scene, old, new)
    return at.step("reference_swap", scene, f"replace {_site(old)} with reference", new, name=at.name(old))


def reference_add(at: Situation) -> Step | None:
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
