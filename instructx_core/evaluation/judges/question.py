"""Questions to a judge (words, pictures and the scores to answer with), its answers, and its protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from ...errors import InputError

FIRST_REFUSED = 3  # questions; a judge that refuses all of these is not asked others
SHORT_JSON = "Answer with the JSON object alone."
SHORT_LINES = "Answer with the lines of names and numbers alone."


@dataclass(frozen=True)
class Scale:
    """Inclusive bounds of a score."""

    low: float
    high: float


@dataclass(frozen=True)
class Question:
    """One message to a judge.

    Attributes:
        words: what to judge and how to answer.
        shown: the pictures that the judge sees, in order: "source", "edited", "references".
        scores: name in the answer -> scale. Empty with `lines`: `count` scores under any names.
        lines: the answer consists of lines `Name: N`; otherwise of one JSON object.
        count: number of scores, if `scores` is empty.
        scale: of these.
    """

    words: str
    shown: tuple[str, ...]
    scores: Mapping[str, Scale] = field(default_factory=dict)
    lines: bool = False
    count: int = 0
    scale: Scale = Scale(1, 5)

    @property
    def reminder(self) -> str:
        """The sentence to add after an unreadable first answer."""
        return SHORT_LINES if self.lines else SHORT_JSON


@dataclass(frozen=True)
class Exhibit:
    """A picture or sampled frames of a clip, as shown to a judge: `frames` [T, H, W, 3] in [0, 1]."""

    title: str
    frames: Tensor


@dataclass(frozen=True)
class Answer:
    """A judge's answer and what it cost.

    Attributes:
        prompt_tokens, answer_tokens: 0 if the judge does not report them.
    """

    text: str
    prompt_tokens: int = 0
    answer_tokens: int = 0


class RefusedQuestion(InputError):
    """A judge will not answer one question, because of its content or size; it may answer others."""


class Judge(Protocol):
    """Anything that is shown pictures and answers in words."""

    name: str

    def ask(self, key: str, number: int, words: str, shown: list[Exhibit]) -> Answer:
        """Answer one question.

        Args:
            key, number: the case and the index of its question; used only by recorded judges.
            words: the question's, plus its reminder when it is asked again.
            shown: pictures, in the order in which the words mention them.

        Raises:
            RefusedQuestion: the judge will not answer this one.
            InputError: the judge cannot be reached, or has no answer.
        """
