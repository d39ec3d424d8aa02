"""A judge that replays the log of an earlier judge, for tests and for recomputing scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...bounded import is_file
from ...errors import InputError
from ...words import quoted, quoted_path
from ..case_log import CaseLog
from ..listing import read_rows, text_of
from .question import Answer, Exhibit


class RecordedJudge:
    """Answers from a .jsonl: `{"key": ..., "judge": ..., "answers": [[first, again], ...]}`, one list per question.

    Raises:
        InputError: a file without answers, or with answers of several judges.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, list[list[str]]] = {}
        names = set()
        for place, row in _lines(path):
            key, answers = text_of(row, "key", place), row.get("answers")
            if not _are_answers(answers):
                raise InputError(f"{place}: it has no answers; give a log that `instructx bench` wrote under judged/.")
            self.answers[key] = answers
            names.add(text_of(row, "judge", place))
        if len(names) != 1:
            raise InputError(f"{quoted_path(path)} holds answers from {len(names)} judges; give those of one.")
        (name,) = names
        self.name = name if name.endswith(" (recorded)") else f"{name} (recorded)"
        self._asked: dict[tuple[str, int], int] = {}

    def ask(self, key: str, number: int, words: str, shown: list[Exhibit]) -> Answer:
        said = self.answers.get(key)
        if said is None or number >= len(said) or not said[number]:
            raise InputError(
                f"{quoted_path(self.path)} has no answer {number + 1} for the case {quoted(key)}; give a complete log."
            )
        times = self._asked.get((key, number), 0)
        self._asked[key, number] = times + 1
        return Answer(said[number][min(times, len(said[number]) - 1)])


def _lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The file's lines, each with its place for messages; torn lines in the log of a benchmark run are skipped."""
    if is_file(path) and is_file(path.resolve().parent.parent / "run.json"):
        return ((f"{quoted_path(path)}, case {quoted(key)}", line) for key, line in CaseLog(path).read().items())
    return read_rows(path)


def _are_answers(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, list) and all(isinstance(text, str) for text in one) for one in value)
    )
