"""Parse the scores in a judge's answer, strictly: an answer in any other form is rejected, never guessed at."""

from __future__ import annotations

import json
import re
from typing import Any

from .question import Question, Scale

LONGEST = 20_000  # characters of an answer
FENCE = re.compile(r"\A```(?:json)?\s*\n(.*?)\n?```\Z", re.DOTALL)
LINE = re.compile(r"^[\s*#-]*([A-Za-z][\w &/'-]{0,60}?)[\s*]*:[\s*]*(-?\d+(?:\.\d+)?)[\s*]*\.?\s*$", re.MULTILINE)


class UnreadableAnswer(Exception):
    """The answer holds no valid scores; the message says why, in a few words."""


def parse(question: Question, text: str) -> dict[str, float]:
    """Name -> score, in the question's order.

    JSON: a single object, bare or in a code fence, with each name of the question once and a number on its scale;
    additional entries (a reason) are allowed. Lines: each name exactly once as `Name: N`, or, if the question has no
    names, exactly `count` such lines.

    Raises:
        UnreadableAnswer: anything else.
    """
    text = text.strip()
    if len(text) > LONGEST:
        raise UnreadableAnswer("it is too long")
    return _lines(question, text) if question.lines else _object(question, text)


def _object(question: Question, text: str) -> dict[str, float]:
    fenced = FENCE.match(text)
    try:
        value = json.loads(fenced[1] if fenced else text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise UnreadableAnswer("it is not just a JSON object") from error
    if not isinstance(value, dict):
        raise UnreadableAnswer("it is not a JSON object")
    missing = [name for name in question.scores if name not in value]
    if missing:
        raise UnreadableAnswer(f"it has no {missing[0]!r}")
    return {name: _number(value[name], scale, name) for name, scale in question.scores.items()}


def _lines(question: Question, text: str) -> dict[str, float]:
    found = [(name.strip(), float(number)) for name, number in LINE.findall(text)]
    names = [name for name, _ in found]
    if question.scores:
        found = [(name, number) for name, number in found if name in question.scores]
        if sorted(name for name, _ in found) != sorted(question.scores):
            raise UnreadableAnswer(f"it does not have exactly one line for each of {', '.join(question.scores)}")
        given = dict(found)
        return {name: _number(given[name], scale, name) for name, scale in question.scores.items()}
    if len(set(names)) != len(names) or len(names) != question.count:
        raise UnreadableAnswer(f"it has {len(names)} score lines, not {question.count}")
    return {name: _number(number, question.scale, name) for name, number in found}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise UnreadableAnswer("it gives a name twice")
    return dict(pairs)


def _number(value: Any, scale: Scale, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UnreadableAnswer(f"{name!r} is not a number")
    if not scale.low <= value <= scale.high:
        raise UnreadableAnswer(f"{name!r} is not from {scale.low:g} to {scale.high:g}")
    return float(value)
