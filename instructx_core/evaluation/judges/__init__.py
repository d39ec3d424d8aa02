"""Judges with one protocol: a local MLLM, a remote service, and the log of an earlier judge."""

from .asking import ask
from .parsing import UnreadableAnswer, parse
from .question import Answer, Exhibit, Judge, Question, RefusedQuestion, Scale
from .recorded import RecordedJudge

__all__ = [
    "Answer",
    "Exhibit",
    "Judge",
    "Question",
    "RecordedJudge",
    "RefusedQuestion",
    "Scale",
    "UnreadableAnswer",
    "ask",
    "parse",
]
