"""The inputs from which an edit is chosen, and its result: the new scene with the words that ask for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..languages import Language
from ..scenes import Object, Scene


@dataclass(frozen=True)
class Step:
    """One applied edit: `scene` is the result, `request` the wording, `plan` the canonical form of the change."""

    kind: str
    scene: Scene
    request: str
    plan: str
    statement: bool  # the wording is a statement ("the circle should be red"), which takes no "can you"
    subject: Object | None = None  # the new object of a reference edit, shown in its reference image


@dataclass(frozen=True)
class Situation:
    """What an edit is chosen from: `scene` as it is now, `original` as the user sees it (the same for a first edit)."""

    rng: np.random.Generator
    scene: Scene
    original: Scene
    statement: bool
    language: Language
    only: Object | None = None  # the one object that may be chosen; None: any

    def choose_object(self) -> Object | None:
        """An object that no earlier edit touched."""
        untouched = [o for o in self.scene.objects if o in self.original.objects and self.only in (None, o)]
        return untouched[self.rng.integers(len(untouched))] if untouched else None

    def new_pair(self, colours: list[str], shapes: list[str]) -> tuple[str, str] | None:
        """A (colour, shape) from the given ones that is in neither the scene nor the original."""
        taken = {(o.colour, o.shape) for o in (*self.scene.objects, *self.original.objects)}
        pairs = [(c, s) for c in colours for s in shapes if (c, s) not in taken]
        return pairs[self.rng.integers(len(pairs))] if pairs else None

    def name(self, o: Object) -> str:
        """A name that is unambiguous both before and after any earlier edit."""
        return self.language.name_object(self.rng, o, (self.original, self.scene))

    def step(
        self,
        kind: str,
        scene: Scene | None,
        plan: str,
        subject: Object | None = None,
        wording: str | None = None,
        **slots: str,
    ) -> Step | None:
        """The finished edit in words, or None without a `scene`; `wording` selects phrases other than `kind`'s."""
        if scene is None:
            return None
        request = self.language.phrase(self.rng, wording or kind, scene.canvas, statement=self.statement, **slots)
        return Step(kind, scene, request, plan, self.statement, subject)
