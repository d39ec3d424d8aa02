"""A candidate pair: made by a recipe, measured and judged, then kept or dropped with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from torch import Tensor

from .clips import STILL_FPS, Clip


@dataclass(frozen=True, eq=False)
class Candidate:
    """A recipe's result for one task and one subject of a clip.

    Attributes:
        key: the clip's key and the candidate's number.
        source: uint8 [T, H, W, 3]; None if the clip could not be read.
        target: the same; None if no edit could be made.
        instructions: the plain one first, then paraphrases.
        reference: uint8 [h, w, 3].
        mask: bool [T, H, W], where the edit may change pixels; None: everywhere.
        caption: of the target.
        scores: name -> value, from detection, measures and judge.
        about: additional fields of the record.
        reason: why it was dropped; "" while it is kept.
        stage: what dropped it: an expert, "read" or "measures".
    """

    key: str
    clip: str
    task: str
    source: Tensor | None
    target: Tensor | None = None
    instructions: tuple[str, ...] = ()
    reference: Tensor | None = None
    mask: Tensor | None = None
    caption: str = ""
    fps: Fraction = STILL_FPS
    scores: Mapping[str, float] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    stage: str = ""


@dataclass(frozen=True)
class Drop:
    """Why no edit could be made, and at which stage."""

    reason: str
    stage: str


class Tray:
    """The candidates of one clip, numbered in the order in which they are added."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip
        self.candidates: list[Candidate] = []

    def add(self, task: str, source: Tensor | None, **fields: Any) -> None:
        key = f"{self.clip.key}-{len(self.candidates):02d}"
        self.candidates.append(Candidate(key, self.clip.key, task, source, fps=self.clip.fps, **fields))

    def drop(self, tasks: tuple[str, ...], drop: Drop, **fields: Any) -> None:
        """Record that no edit could be made for these tasks."""
        for task in tasks:
            self.add(task, self.clip.frames, reason=drop.reason, stage=drop.stage, **fields)
