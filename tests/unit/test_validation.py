"""Configs checked by their hints: what is refused, and in which words."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
import yaml

from instructx_core.validation import Choice, FieldError, Length, Range, check_fields, converted


class Colour(str, Enum):
    RED = "red"


@dataclass(frozen=True)
class Inner:
    share: Annotated[float, Range(0, below=1)] = 0.5


@dataclass(frozen=True)
class Outer:
    count: Annotated[int, Range(1, 10)]
    sizes: Annotated[tuple[tuple[Annotated[int, Range(16)], Annotated[int, Range(16)]], ...], Length(1)] = ((64, 64),)
    words: dict[Annotated[str, Choice(("a", "b"))], float] = field(default_factory=dict)
    loss: Literal["data", "velocity"] = "data"
    colour: Colour = Colour.RED
    name: Annotated[str, Length(1, 5)] | None = None
    inner: Inner = field(default_factory=Inner)
    flag: bool = False
    anything: Any = None
    either: int | tuple[float, ...] = 1


def test_plain_values_become_the_dataclass() -> None:
    plain = {"count": 3, "sizes": [[16, 32]], "words": {"a": 1}, "colour": "red", "inner": {"share": 0}, "either": [1]}
    outer = converted(Outer, plain)
    assert outer == Outer(3, ((16, 32),), {"a": 1}, inner=Inner(0), either=(1,))
    check_fields(outer)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"count": 0}, "count is 0; give an integer from 1 to 10"),
        ({"count": True}, "count is True; give an integer from 1 to 10"),
        ({"count": 1.0}, "count is 1.0"),
        ({"count": "1"}, "count is '1'"),
        ({"count": None}, "count is None"),
        ({"count": 10**400}, "count is an integer with hundreds of digits"),
        ({"sizes": []}, "sizes is \\[\\]; give a list that is not empty, each a list of 2, each an integer of at"),
        ({"sizes": [[16, 15]]}, r"sizes\[0\]\[1\] is 15; give an integer of at least 16"),
        ({"sizes": [[16, 16, 16]]}, r"sizes\[0\] is "),
        ({"sizes": "16"}, "sizes is '16'"),
        ({"sizes": [["a", "b"]]}, r"sizes\[0\]\[0\] is 'a'"),
        ({"words": {"c": 1}}, "a key in words is 'c'; give a string from a, b"),
        ({"words": {"a": math.nan}}, "words.a is nan; give a number"),
        ({"words": {"a": math.inf}}, "words.a is inf"),
        ({"words": {"a": 10**400}}, "words.a is an integer with hundreds of digits"),
        ({"words": [1]}, "words is "),
        ({"words": None}, "words is None; give a mapping"),
        ({"loss": "l1"}, "loss is 'l1'; give one of data, velocity"),
        ({"loss": ["data"]}, "loss is "),
        ({"colour": "blue"}, "colour is 'blue'; give one of red"),
        ({"name": ""}, "name is ''; give a string of 1 to 5"),
        ({"name": "a\0"}, "name is "),
        ({"name": "\udcff"}, "name is "),
        ({"name": 5}, "name is 5"),
        ({"inner": {"share": 1}}, "inner.share is 1; give a number from 0 to below 1"),
        ({"inner": {"x": 1}}, "Inner has no field 'x'; it has share"),
        ({"inner": 5}, "inner is 5; give a mapping"),
        ({"flag": 1}, "flag is 1; give true or false"),
        ({"either": "x"}, "either is 'x'"),
        ({"x": 1}, "Outer has no field 'x'"),
        ({"a\x1b[2J\nb": 1}, r"has no field 'a\\x1b\[2J\\nb'"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(FieldError, match=words) as caught:
        converted(Outer, {"count": 1, **change})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_missing_field_and_no_mapping() -> None:
    with pytest.raises(FieldError, match="count is missing; give an integer from 1 to 10"):
        converted(Outer, {})
    with pytest.raises(FieldError, match="Outer is None; give a mapping"):
        converted(Outer, None)


def test_values_built_in_python_are_checked_alike() -> None:
    with pytest.raises(FieldError, match="count is -1"):
        check_fields(Outer(-1))
    with pytest.raises(FieldError, match="share is nan"):
        check_fields(Inner(math.nan))
    for wrong in (5, {"share": 0.5}):  # a mapping stands for the dataclass only in a file
        with pytest.raises(FieldError, match="inner is .*; give a value of type Inner$"):
            check_fields(Outer(1, inner=wrong))


@dataclass(frozen=True)
class Worded:
    precision: Literal["no", "bf16"] = "no"


def test_the_word_no_may_stay_unquoted_in_yaml() -> None:
    assert converted(Worded, yaml.safe_load("precision: no")) == Worded("no")
    with pytest.raises(FieldError, match="precision is True; give one of no, bf16"):
        converted(Worded, yaml.safe_load("precision: yes"))
    with pytest.raises(FieldError, match="precision is False"):
        check_fields(Worded(False))  # type: ignore[arg-type]
