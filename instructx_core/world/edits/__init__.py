"""Edits: each chooses its object and values in a scene, and returns the new scene with the words that ask for it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..languages import ENGLISH, Language
from ..scenes import Object, Scene
from ..vocabulary import TONES, WEATHER
from . import objects, pictures
from .situation import Situation, Step

__all__ = ["Step", "apply_edit"]

_EDITS: dict[str, Callable[[Situation], Step | None]] = {
    "recolor": objects.recolor,
    "remove": objects.remove,
    "add": objects.add,
    "replace": objects.replace_shape,
    "background": pictures.background,
    "grayscale": pictures.effect("grayscale"),
    "invert": pictures.effect("invert"),
    "reference_swap": objects.reference_swap,
    "reference_add": objects.reference_add,
    "tone": pictures.one_of("tone", TONES),
    "style": pictures.style,
    "weather": pictures.one_of("weather", WEATHER),
    "segment": pictures.segment,
}


def apply_edit(
    rng: np.random.Generator,
    kind: str,
    scene: Scene,
    original: Scene,
    *,
    statement: bool = False,
    language: Language = ENGLISH,
    only: Object | None = None,
) -> Step | None:
    """Choose and apply an edit of `kind` to `scene`, worded as an imperative or a `statement`; None if it does not fit.

    `original` is the scene before any edit: names are unambiguous in both, and objects that an earlier edit changed are
    not changed again. `only` is the one object that may be chosen.
    """
    return _EDITS[kind](Situation(rng, scene, original, statement, language, only))
