"""A user study as one static page (InstructX A.3, Fig. 11), and the evaluation of its answers."""

from .collect import Answers, Outcome, collect, read_answers
from .page import QUESTIONS, StudyItem, find_items, write_study

__all__ = [
    "QUESTIONS",
    "Answers",
    "Outcome",
    "StudyItem",
    "collect",
    "find_items",
    "read_answers",
    "write_study",
]
