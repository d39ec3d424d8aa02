"""The `Recipe` type, and the step that recipes share: find a subject's box and mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..candidate import Drop, Tray
from ..clips import Clip
from ..experts import Experts, Look, Subject


@dataclass(frozen=True)
class Choices:
    """The parts of a config that concern recipes.

    Attributes:
        subjects: at most, per clip.
        references: also make quadruples, with a new picture of the object.
        looks: kinds of look to change.
        background: which clips a swap accepts; None: the kind that its recipe is for.
        static_below: a background with less median motion per frame, relative to the shorter side, is static.
        detection: the least score of a box that is used.
    """

    subjects: int = 1
    references: bool = True
    looks: tuple[Look, ...] = ("colour", "style", "tone")
    background: str | None = None
    static_below: float = 0.002
    detection: float = 0.35


@dataclass(frozen=True)
class Recipe:
    """A method of making candidates from a clip.

    Attributes:
        needs: the experts that it always uses.
        for_references: additional ones for quadruples.
        for_background: additional ones to tell static from dynamic clips.
    """

    name: str
    needs: tuple[str, ...]
    make: Callable[[Clip, Experts, Choices, Tray], None]
    for_references: tuple[str, ...] = ()
    for_background: tuple[str, ...] = ()

    def needed(self, choices: Choices) -> tuple[str, ...]:
        """The experts that it uses with these choices."""
        further = self.for_references if choices.references else ()
        return (*self.needs, *further, *(self.for_background if choices.background != "any" else ()))


@dataclass(frozen=True, eq=False)
class Found:
    """A subject with its mask, bool [T, H, W], and the score of its box."""

    subject: Subject
    mask: Tensor
    scores: dict[str, float]


def find(frames: Tensor, subject: Subject, experts: Experts, choices: Choices) -> Found | Drop:
    """Detect a subject in the first frame and track it."""
    boxes = experts.detect.find(frames[0], subject.simple)
    if not boxes:
        return Drop("not detected", "detect")
    if not boxes[0].score >= choices.detection:  # True for NaN too
        return Drop("detected with too low a score", "detect")
    mask = experts.segment.track(frames, boxes[0].box)
    if not mask.any():
        return Drop("not tracked", "segment")
    return Found(subject, mask, {"detection": boxes[0].score})
