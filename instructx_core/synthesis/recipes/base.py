"""What a recipe is, and the step that most begin with: a subject, its box, its mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..candidate import Drop, Tray
from ..clips import Clip
from ..experts import Experts, Look, Subject


@dataclass(frozen=True)
class Choices:
    """What a config says to recipes.

    Attributes:
        subjects: of a clip, at most.
        references: also make quadruples, with a new picture of the object.
        looks: kinds of changes of a look.
        background: which clips a swap takes; None: what its recipe is for.
        static_below: median motion of a static background, in parts of the shorter side per frame.
        detection: the least score of a box that is followed further.
    """

    subjects: int = 1
    references: bool = True
    looks: tuple[Look, ...] = ("colour", "style", "tone")
    background: str | None = None
    static_below: float = 0.002
    detection: float = 0.35


@dataclass(frozen=True)
class Recipe:
    """A way from a clip to candidates.

    Attributes:
        needs: the experts that it always asks.
        for_references: further ones for quadruples.
        for_background: further ones to tell static from dynamic clips.
    """

    name: str
    needs: tuple[str, ...]
    make: Callable[[Clip, Experts, Choices, Tray], None]
    for_references: tuple[str, ...] = ()
    for_background: tuple[str, ...] = ()

    def needed(self, choices: Choices) -> tuple[str, ...]:
        """The experts that it asks under these choices."""
        further = self.for_references if choices.references else ()
        return (*self.needs, *further, *(self.for_background if choices.background != "any" else ()))


@dataclass(frozen=True, eq=False)
class Found:
    """A subject with the score of its box and its mask, bool [T, H, W]."""

    subject: Subject
    mask: Tensor
    scores: dict[str, float]


def find(frames: Tensor, subject: Subject, experts: Experts, choices: Choices) -> Found | Drop:
    """A subject detected in the first frame and tracked."""
    boxes = experts.detect.find(frames[0], subject.simple)
    if not boxes:
        return Drop("not detected", "detect")
    if not boxes[0].score >= choices.detection:  # so for NaN
        return Drop("detected with too low a score", "detect")
    mask = experts.segment.track(frames, boxes[0].box)
    if not mask.any():
        return Drop("nothing tracked", "segment")
    return Found(subject, mask, {"detection": boxes[0].score})
