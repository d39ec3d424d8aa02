"""What a judge is asked: words, pictures, and the numbers that its answer has to hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

SHORT_JSON = "Answer with the JSON object alone."
SHORT_LINES = "Answer with the lines of names and numbers alone."


@dataclass(frozen=True)
class Scale:
    """Bounds of a score, both included."""

    low: float
    high: float


@dataclass(frozen=True)
class Question:
    """One message to a judge.

    Attributes:
        words: what to judge and how to answer.
        shown: which pictures it sees, in this order: "source", "edited", "references".
        scores: name in the answer -> scale. Empty with `lines`: as many as `count`, under any names.
        lines: the answer is lines `Name: N`; else one JSON object.
        count: scores of an answer in lines whose names are not known before.
        scale: of those.
    """

    words: str
    shown: tuple[str, ...]
    scores: Mapping[str, Scale] = field(default_factory=dict)
    lines: bool = False
    count: int = 0
    scale: Scale = Scale(1, 5)

    @property
    def reminder(self) -> str:
        """What is added where the first answer could not be read."""
        return SHORT_LINES if self.lines else SHORT_JSON


@dataclass(frozen=True)
class Exhibit:
    """A picture or clip as a judge sees it: `frames` [T, H, W, 3] in [0, 1], at most some frames of a clip."""

    title: str
    frames: Tensor


@dataclass(frozen=True)
class Answer:
    """What a judge said, and what it cost.

    Attributes:
        prompt_tokens, answer_tokens: 0 where a judge does not count.
    """

    text: str
    prompt_tokens: int = 0
    answer_tokens: int = 0


class Judge(Protocol):
    """Anything that looks at pictures and answers in words."""

    name: str

    def ask(self, key: str, number: int, words: str, shown: list[Exhibit]) -> Answer:
        """Answer one question.

        Args:
            key, number: which case, and which of its questions; for judges that only repeat.
            words: the question's, with a reminder where it is asked again.
            shown: pictures, in the order in which the words speak of them.

        Raises:
            InputError: the judge cannot be asked.
        """
