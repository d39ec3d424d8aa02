"""Ask a judge one question, and once more if the answer cannot be read."""

from __future__ import annotations

from .parsing import UnreadableAnswer, parse
from .question import Answer, Exhibit, Judge, Question


def ask(
    judge: Judge, key: str, number: int, question: Question, shown: list[Exhibit]
) -> tuple[dict[str, float] | None, list[Answer]]:
    """Scores by name (None if both answers are unreadable), and the raw answers."""
    answers: list[Answer] = []
    for words in (question.words, f"{question.words}\n{question.reminder}"):
        answers.append(judge.ask(key, number, words, shown))
        try:
            return parse(question, answers[-1].text), answers
        except UnreadableAnswer:
            continue
    return None, answers
