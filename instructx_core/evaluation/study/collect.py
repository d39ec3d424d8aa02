"""Evaluate the answers of a study: means with confidence intervals, and the agreement of raters.

- A mean is over all ratings of a method. Its 95 % interval is a bootstrap over items (the study's sample): 2,000 draws
  from a fixed seed, so the same answers give the same numbers.
- Agreement is Krippendorff's alpha for interval data over (item, method): 1 is full agreement, 0 is chance level.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...bounded import read_json
from ...errors import InputError
from ...words import quoted, quoted_path, shown
from .page import QUESTIONS

NAMES = tuple(str(question["name"]) for question in QUESTIONS)
DRAWS = 2000
MOST = 5


@dataclass(frozen=True)
class Answers:
    """One rater's file: (item, method, question) -> 1 to 5."""

    study: str
    rater: str
    scores: Mapping[tuple[int, str, str], int]


@dataclass(frozen=True)
class MethodScore:
    """Mean of one method in one question; `low` and `high` bound its 95 % interval, None for a single item."""

    method: str
    question: str
    n: int
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Outcome:
    """A study's results. `agreement`: question -> alpha, None if no unit was rated twice or all ratings are equal."""

    study: str
    raters: int
    items: int
    scores: tuple[MethodScore, ...]
    agreement: Mapping[str, float | None]

    def to_dict(self) -> dict[str, object]:
        return asdict(self)

    def to_markdown(self) -> str:
        """A row per method, ordered by the mean over all questions, best first; then the agreement."""
        columns = (*NAMES, "all")
        methods = dict.fromkeys(score.method for score in self.scores)
        found = {(score.method, score.question): score for score in self.scores}
        ordered = sorted(methods, key=lambda method: -found[method, "all"].mean)
        lines = [f"{self.raters} raters, {self.items} items, mean of 1 to 5 and its 95 % interval.", ""]
        lines += [f"| method | {' | '.join(columns)} | ratings |", "|---" * (len(columns) + 2) + "|"]
        for method in ordered:
            cells = [_cell(found.get((method, column))) for column in columns]
            lines.append(f"| {method} | {' | '.join(cells)} | {found[method, 'all'].n} |")
        told = (f"{name} {'-' if value is None else f'{value:.2f}'}" for name, value in self.agreement.items())
        return "\n".join([*lines, "", f"Agreement (Krippendorff's alpha): {', '.join(told)}."])


def read_answers(path: Path) -> Answers:
    """Read a rater's file. Raises InputError if it is not one, or has a rating that is not an integer from 1 to 5."""
    value, name = read_json(path), quoted_path(path)
    if not isinstance(value, dict) or not all(isinstance(value.get(one), str) for one in ("study", "rater")):
        raise InputError(f"{name} holds no study answers; give the files that the study's page saved.")
    scores: dict[tuple[int, str, str], int] = {}
    entries = value.get("answers")
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{name} holds no answers, as the rater saved it too early; ask for it again.")
    for entry in entries:
        item, method, given = _fields(entry, name)
        for question, score in given.items():
            whole = isinstance(score, int) and not isinstance(score, bool)
            if question not in NAMES or not whole or not 1 <= score <= MOST:
                raise InputError(
                    f"{name}: {quoted(question)} is rated {shown(score)}; rate {', '.join(NAMES)} with 1 to {MOST}."
                )
            if (item, method, question) in scores:
                raise InputError(f"{name}: item {item} of {quoted(method)} is rated twice; save the page's file again.")
            scores[item, method, question] = score
    return Answers(value["study"], value["rater"], scores)


def collect(files: Sequence[Path], key: Path | None = None) -> Outcome:
    """Combine the files of several raters of one study.

    Args:
        files: answers; a `.key.json` among them is treated like one next to them.
        key: the study's `.key.json`. None: this study's key next to the answers; without one, methods keep their ids.

    Raises:
        InputError: no answers, files of different studies, two of one rater, or a key of another study.
    """
    given, files = files, [path for path in files if not path.name.endswith(".key.json")]
    if not files:
        raise InputError(f"{quoted_path(given[0])} is a study's key; also give the files that its page saved.")
    answers = [read_answers(path) for path in files]
    first = answers[0]
    for path, one in zip(files, answers, strict=True):
        if one.study != first.study:
            raise InputError(
                f"{quoted_path(path)} is from a different study than {quoted_path(files[0])}; collect them separately."
            )
    raters = [one.rater for one in answers]
    if twice := next((rater for rater in raters if raters.count(rater) > 1), None):
        raise InputError(f"Two files are from the rater {quoted(twice)}; leave one out, or rename the rater in one.")
    names = _method_names(first.study, given, key)
    rows = [
        (one.rater, item, method, question, score)
        for one in answers
        for (item, method, question), score in one.scores.items()
    ]
    methods = sorted({row[2] for row in rows})
    scores = [
        _score(
            names.get(method, method),
            question,
            [row for row in rows if row[2] == method and question in (row[3], "all")],
        )
        for method in methods
        for question in (*NAMES, "all")
    ]
    return Outcome(
        first.study,
        len(answers),
        len({row[1] for row in rows}),
        tuple(score for score in scores if score is not None),
        {question: agreement([row for row in rows if row[3] == question]) for question in NAMES},
    )


def agreement(rows: Sequence[tuple[str, int, str, str, int]]) -> float | None:
    """Krippendorff's alpha, interval metric, over units (item, method) with at least two ratings.

    None if there are no such units, or all ratings are equal.
    """
    units: dict[tuple[int, str], list[int]] = defaultdict(list)
    for _, item, method, _, score in rows:
        units[item, method].append(score)
    pairable = [np.array(values, float) for values in units.values() if len(values) > 1]
    if not pairable:
        return None
    together = np.concatenate(pairable)
    # mean squared distance of pairs within a unit, each unit weighted by its ratings, over that of all pairs
    observed = sum(_pair_distance(values) * len(values) for values in pairable) / len(together)
    expected = _pair_distance(together)
    return 1 - observed / expected if expected else None


def _pair_distance(values: np.ndarray) -> float:
    """Mean squared difference over all pairs of ratings: twice their sample variance."""
    return 2 * float(values.var(ddof=1))


def _score(method: str, question: str, rows: Sequence[tuple[str, int, str, str, int]]) -> MethodScore | None:
    if not rows:
        return None
    items: dict[int, list[int]] = defaultdict(list)
    for _, item, _, _, score in rows:
        items[item].append(score)
    sums, counts = (np.array([measure(values) for values in items.values()], float) for measure in (sum, len))
    low = high = None
    if len(items) > 1:
        drawn = np.random.default_rng(0).integers(0, len(items), (DRAWS, len(items)))
        low, high = np.percentile(sums[drawn].sum(1) / counts[drawn].sum(1), (2.5, 97.5)).tolist()
    return MethodScore(method, question, len(rows), float(sums.sum() / counts.sum()), low, high)


def _fields(entry: Any, name: str) -> tuple[int, str, Mapping[str, Any]]:
    if isinstance(entry, dict):
        item, method, scores = (entry.get(part) for part in ("item", "method", "scores"))
        if isinstance(item, int) and isinstance(method, str) and isinstance(scores, dict):
            return item, method, scores
    raise InputError(f"{name}: an answer is {shown(entry)}; give the files that the study's page saved.")


def _method_names(study: str, files: Sequence[Path], key: Path | None) -> Mapping[str, str]:
    beside = sorted({found for path in files for found in path.resolve().parent.glob("*.key.json")})
    for path in [key] if key else beside:
        value = read_json(path)
        if isinstance(value, dict) and value.get("study") == study and isinstance(value.get("methods"), dict):
            return {str(number): str(name) for number, name in value["methods"].items()}
    if key:
        raise InputError(
            f"{quoted_path(key)} is not the key of the study {quoted(study)}; give the .key.json next to its page."
        )
    return {}


def _cell(score: MethodScore | None) -> str:
    if score is None:  # nobody rated the method in this question
        return "-"
    return f"{score.mean:.2f}" + ("" if score.low is None else f" ({score.low:.2f} to {score.high:.2f})")
