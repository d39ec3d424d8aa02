"""The interface between recipes and models: one protocol for each kind of expert. Models exchange pixels, no latents.

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
    """An expert cannot handle this clip; the message is a short reason. The clip is dropped and the run continues.

    Attributes:
        stage: the expert.
        why: the error that the model raised, if any.
    """

    def __init__(self, words: str, stage: str = "", why: str = "") -> None:
        super().__init__(words)
        self.stage, self.why = stage, why


@dataclass(frozen=True)
class Subject:
    """An object in a picture: its category ("shirt"), a short name ("blue shirt"), and a sentence about it.

    `person`: poses can be estimated for it.
    """

    category: str
    simple: str
    detailed: str
    person: bool = False


@dataclass(frozen=True)
class Recaption:
    """An instruction paraphrased: one as short, one that requires understanding, one that requires reasoning."""

    simple: str
    understanding: str
    reasoning: str

    @property
    def all(self) -> tuple[str, str, str]:
        return self.simple, self.understanding, self.reasoning


@dataclass(frozen=True)
class Restyle:
    """An instruction that changes the look; `subject` if it is about one object only."""

    sentence: str
    subject: Subject | None = None


@dataclass(frozen=True)
class Detection:
    """A box (left, top, right, bottom; pixels) with its score in [0, 1]."""

    box: tuple[float, float, float, float]
    score: float


class Describer(Protocol):
    """Describes in words what a clip shows and what was changed."""

    def caption(self, frames: Tensor) -> str: ...

    def subjects(self, frames: Tensor, most: int) -> Sequence[Subject]:
        """Objects that are suitable for an edit, best first."""

    def alternative(self, frames: Tensor, subject: Subject) -> Subject | None:
        """A replacement for the subject."""

    def restyle(self, frames: Tensor, look: Look) -> Restyle | None:
        """A change of look that suits the frames."""

    def instruct(self, task: Task, before: Tensor, after: Tensor, old: Subject, new: Subject | None) -> str:
        """The instruction that turns `before` into `after`; for tasks with a reference, it points to the reference."""

    def recaption(self, frames: Tensor, sentence: str, old: Subject, new: Subject | None) -> Recaption: ...


class EditRater(Protocol):
    """Rates an edit, 0 to 10: `follow`, `preserve`, `quality`."""

    def rate(self, before: Tensor, after: Tensor, sentence: str, reference: Tensor | None) -> Mapping[str, float]: ...


class Detector(Protocol):
    def find(self, picture: Tensor, name: str) -> Sequence[Detection]:
        """The boxes of the named object, most confident first."""


class Segmenter(Protocol):
    def track(self, frames: Tensor, box: tuple[float, float, float, float]) -> Tensor:
        """The mask in every frame of the object that is in the box in the first frame."""


class Eraser(Protocol):
    def fill(self, frames: Tensor, mask: Tensor, words: str) -> Tensor:
        """Inpaint the mask: with what `words` describe, or with the background if they are empty."""


class Redrawer(Protocol):
    def edit(self, picture: Tensor, sentence: str) -> Tensor:
        """The picture after the edit."""

    def portray(self, picture: Tensor, mask: Tensor, name: str) -> Tensor:
        """A new picture of only the object under `mask` [H, W], in another setting."""


class Poser(Protocol):
    def poses(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Key points (y, x, confidence) of the person under the mask: float [T, K, 3], in pixels."""


class Animator(Protocol):
    def animate(self, picture: Tensor, frames: Tensor, poses: Tensor | None) -> Tensor:
        """A clip that starts with `picture` and moves like `frames` (and the poses, if given)."""


class FlowMeter(Protocol):
    def flow(self, frames: Tensor) -> Tensor:
        """Motion (down, right) from each frame to the next, in pixels: float [T - 1, h, w, 2] on a grid."""


class SceneSplitter(Protocol):
    def scenes(self, frames: Tensor) -> Sequence[tuple[int, int]]:
        """(first frame, end) of every scene, the end exclusive."""


@dataclass(frozen=True)
class Experts:
    """The experts of a run; each recipe states which it needs."""

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
