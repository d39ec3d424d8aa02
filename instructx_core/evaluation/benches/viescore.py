"""VIEScore (Ku et al. 2024): semantic consistency of source and edit, perceptual quality of the edit.

Each is the lower of two scores from 0 to 10; the overall score is their geometric mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from ..judges import Exhibit, Judge, Question, Scale, ask

TEN = Scale(0, 10)
CONSISTENCY = (
    "You compare a picture before and after an edit. The instruction was: {instruction}\n"
    "Give two scores from 0 to 10.\n"
    "success: how far the second picture does what the instruction asks, 0 not at all, 10 exactly.\n"
    "restraint: how far everything else stayed as it was, 0 another picture, 10 nothing else changed.\n"
    'Answer with one JSON object alone: {{"success": N, "restraint": N, "reason": "one sentence"}}'
)
QUALITY = (
    "You look at one picture that was made by a computer. Give two scores from 0 to 10. naturalness: does it look like "
    "one coherent scene with right light, shadows and distances, 0 not at all, 10 fully. cleanness: is it free of "
    "distortion, blur, seams and malformed things, 0 full of them, 10 without any.\n"
    'Answer with one JSON object alone: {{"naturalness": N, "cleanness": N, "reason": "one sentence"}}'
)


def questions(instruction: str) -> list[Question]:
    return [
        Question(CONSISTENCY.format(instruction=instruction), ("source", "edited"), {"success": TEN, "restraint": TEN}),
        Question(QUALITY.format(), ("edited",), {"naturalness": TEN, "cleanness": TEN}),
    ]


def score(answers: Sequence[Mapping[str, float]]) -> tuple[float, float, float]:
    """Semantic consistency, perceptual quality, overall; 0 to 10 each."""
    consistency, quality = (min(answer.values()) for answer in answers)
    return consistency, quality, math.sqrt(consistency * quality)


def judge_pair(judge: Judge, instruction: str, source: Tensor, edited: Tensor) -> tuple[float, float, float] | None:
    """`score` of one edit, frames [T, H, W, 3] in [0, 1]; None if an answer stays unreadable when asked again."""
    exhibits = {"source": Exhibit("Original", source), "edited": Exhibit("Edited", edited)}
    answers = []
    for number, question in enumerate(questions(instruction)):
        shown = [exhibits[name] for name in question.shown]
        found, _ = ask(judge, "edit", number, question, shown)
        if found is None:
            return None
        answers.append(found)
    return score(answers)
