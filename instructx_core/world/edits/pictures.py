"""Edits of the whole picture: its background, look or weather; and the mask of an object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..scenes import NATURAL, plain_relief
from ..vocabulary import BACKGROUNDS, BLUR, STYLES
from .situation import Situation, Step


def background(at: Situation) -> Step | None:
    names = [b for b in BACKGROUNDS if b != at.scene.background]
    name = names[at.rng.integers(len(names))]
    relief = plain_relief(at.scene.relief) if at.scene.background == NATURAL else at.scene.relief
    after = replace(at.scene, background=name, relief=relief)
    return at.step("background", after, f"background {name}", colour=name)


def effect(kind: str) -> Callable[[Situation], Step | None]:
    """An edit with a single look, named like its kind."""
    return lambda at: at.step(kind, replace(at.scene, effects=(*at.scene.effects, kind)), kind)


def one_of(kind: str, looks: tuple[str, ...]) -> Callable[[Situation], Step | None]:
    """An edit that applies one of several looks."""

    def look(at: Situation) -> Step | None:
        name = looks[at.rng.integers(len(looks))]
        after = replace(at.scene, effects=(*at.scene.effects, name))
        return at.step(kind, after, name, wording=name)

    return look


def style(at: Situation) -> Step | None:
    name = STYLES[at.rng.integers(len(STYLES))]
    if name != BLUR:
        return one_of("style", (name,))(at)
    if not at.scene.objects or at.scene.effects or np.ptp(at.scene.relief) < 0.3:
        return None  # nothing would stand out, or nothing would change
    return at.step("style", replace(at.scene, blurred=True), BLUR, wording=BLUR)


def segment(at: Situation) -> Step | None:
    shown = at.choose_object()
    if shown is None or at.scene.effects:
        return None
    site = f"{shown.colour} {shown.shape} at {shown.position()}"
    return at.step("segment", replace(at.scene, masks=shown), f"mask of {site}", name=at.name(shown))
