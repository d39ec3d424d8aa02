"""What recipes ask of models: one protocol for each kind of expert. Pictures go in and come out as pixels.

Frames are uint8 [T, H, W, 3], pictures uint8 [H, W, 3], masks bool [T, H, W].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

Task = Literal["remove", "add", "reference_add", "swap", "reference_swap"]
Look = Literal["colour", "style", "tone"]


class ExpertFailed(Exception):
    """An expert has no answer for this clip, in a few words: the clip is dropped, the run goes on.

    Attributes:
        stage: the expert.
        why: its own error, where it has raised one.
    """

    def __init__(self, words: str, stage: str = "", why: str = "") -> None:
        super().__init__(words)
        self.stage, self.why = stage, why


@dataclass(frozen=True)
class Subject:
    """A thing in a picture: its kind ("shirt"), a short name ("blue shirt"), and a sentence about it.

    `person` says whether a pose can be taken of it.
    """

    category: str
    simple: str
    detailed: str
    person: bool = False


@dataclass(frozen=True)
class Recaption:
    """An instruction in other words: as short, for one who has to understand, for one who has to reason."""

    simple: str
    understanding: str
    reasoning: str

    @property
    def all(self) -> tuple[str, str, str]:
        return self.simple, self.understanding, self.reasoning


@dataclass(frozen=True)
class Restyle:
    """A sentence that changes a look; `subject` where it is that of one thing alone."""

    sentence: str
    subject: Subject | None = None


@dataclass(frozen=True)
class Detection:
    """A box (left, top, right, bottom; pixels) with its score in [0, 1]."""

    box: tuple[float, float, float, float]
    score: float


class Describer(Protocol):
    """Says in words what is there and what was changed."""

    def caption(self, frames: Tensor) -> str: ...

    def subjects(self, frames: Tensor, most: int) -> Sequence[Subject]:
        """Things that an edit could take, the best first."""

    def alternative(self, frames: Tensor, subject: Subject) -> Subject | None:
        """What could stand in the subject's place."""

    def restyle(self, frames: Tensor, look: Look) -> Restyle | None:
        """A change of look that suits the frames."""

    def instruct(self, task: Task, before: Tensor, after: Tensor, old: Subject, new: Subject | None) -> str:
        """The sentence that leads from `before` to `after`; of tasks with a reference, one that points to it."""

    def recaption(self, frames: Tensor, sentence: str, old: Subject, new: Subject | None) -> Recaption: ...


class EditRater(Protocol):
    """Rates an edit, 0 to 10: `follow`, `preserve`, `quality`."""

    def rate(self, before: Tensor, after: Tensor, sentence: str, reference: Tensor | None) -> Mapping[str, float]: ...


class Detector(Protocol):
    def find(self, picture: Tensor, name: str) -> Sequence[Detection]:
        """Where the thing of that name is, the surest first."""


class Segmenter(Protocol):
    def track(self, frames: Tensor, box: tuple[float, float, float, float]) -> Tensor:
        """The mask, in each frame, of what is in the box in the first one."""


class Eraser(Protocol):
    def fill(self, frames: Tensor, mask: Tensor, words: str) -> Tensor:
        """Paint the mask anew: with what `words` say, or for "" with what is behind."""


class Redrawer(Protocol):
    def edit(self, picture: Tensor, sentence: str) -> Tensor:
        """The picture after the edit."""

    def portray(self, picture: Tensor, mask: Tensor, name: str) -> Tensor:
        """A new picture of the thing under `mask` [H, W], alone and in another setting."""


class Poser(Protocol):
    def poses(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Key points (y, x, confidence) of what is under the mask: float [T, K, 3], pixels."""


class Animator(Protocol):
    def animate(self, picture: Tensor, frames: Tensor, poses: Tensor | None) -> Tensor:
        """A clip that begins with `picture` and moves as `frames` do (and as the poses say)."""


class FlowMeter(Protocol):
    def flow(self, frames: Tensor) -> Tensor:
        """Motion (down, right) from each frame to the next, in pixels: float [T - 1, h, w, 2] on a grid."""


class SceneSplitter(Protocol):
    def scenes(self, frames: Tensor) -> Sequence[tuple[int, int]]:
        """(first, end) of every scene."""


@dataclass(frozen=True)
class Experts:
    """Those that a run has; a recipe says which it needs."""

    describe: Describer | None = None
    judge: EditRater | None = None
    detect: Detector | None = None
    segment: Segmenter | None = None
    erase: Eraser | None = None
    redraw: Redrawer | None = None
    pose: Poser | None = None
    animate: Animator | None = None
    flow: FlowMeter | None = None
    cuts: SceneSplitter | None = None
