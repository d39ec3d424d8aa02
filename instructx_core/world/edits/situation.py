"""What an edit is chosen from, and what it gives: the scene after it, with the words that ask for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..languages import Language
from ..scenes import Object, Scene


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
    language: Language
    only: Object | None = None  # the one object that may be chosen; None: any

    def choose_object(self) -> Object | None:
        """An object that no earlier edit touched."""
        untouched = [o for o in self.scene.objects if o in self.original.objects and self.only in (None, o)]
        return untouched[self.rng.integers(len(untouched))] if untouched else None

    def new_pair(self, colours: list[str], shapes: list[str]) -> tuple[str, str] | None:
        """A (colour, shape) out of the given ones that neither the scene nor the original has."""
        taken = {(o.colour, o.shape) for o in (*self.scene.objects, *self.original.objects)}
        pairs = [(c, s) for c in colours for s in shapes if (c, s) not in taken]
        return pairs[self.rng.integers(len(pairs))] if pairs else None

    def name(self, o: Object) -> str:
        """Words that mean this object before and after any earlier edit."""
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
        """The finished edit in words, or None where there is no `scene`; `wording` names its phrases if not `kind`."""
        if scene is None:
            return None
        request = self.language.phrase(self.rng, wording or kind, scene.canvas, statement=self.statement, **slots)
        return Step(kind, scene, request, plan, self.statement, subject)
