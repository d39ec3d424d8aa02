"""Validate config dataclasses by their type hints, which also contain the ranges.

    steps: Annotated[int, Range(1, 1000)] = 50
    loss: Literal["data", "velocity"] = "velocity"
    sizes: Annotated[tuple[tuple[Side, Side], ...], Length(1)] = ((64, 64),)

Numbers must be finite, text has no null byte or lone surrogate, and `bool` is not a number. An error is one sentence
that names the field.
"""

from __future__ import annotations

import dataclasses
import math
import types
from dataclasses import dataclass
from enum import Enum
from numbers import Integral, Real
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from .words import listed, quoted, shown


@dataclass(frozen=True)
class Range:
    """Bounds of a number: `least` and `most` are inclusive, `above` and `below` exclusive."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def holds(self, value: Any) -> bool:
        return (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def words(self) -> str:
        parts = [("from", self.least), ("above", self.above), ("to", self.most), ("to below", self.below)]
        said = [f"{word} {bound}" for word, bound in parts if bound is not None]
        return " ".join(said) if len(said) > 1 or self.least is None else f"of at least {self.least}"


@dataclass(frozen=True)
class Length:
    """Bounds of the number of characters, elements or entries."""

    least: int = 0
    most: int | None = None

    def holds(self, value: Any) -> bool:
        return self.least <= len(value) and (self.most is None or len(value) <= self.most)

    def words(self) -> str:
        if self.most is None:
            return "that is not empty" if self.least == 1 else f"of at least {self.least}"
        return f"of {self.least} to {self.most}"


@dataclass(frozen=True)
class Choice:
    """The allowed words, if the type checker cannot know them (else use `Literal`)."""

    words_: tuple[str, ...]

    def holds(self, value: Any) -> bool:
        return value in self.words_

    def words(self) -> str:
        return f"from {', '.join(self.words_)}"


class FieldError(ValueError):
    """A field that is missing, unknown, of another type or out of range."""


def converted(cls: type, plain: Any, place: str = "") -> Any:
    """Build a (nested) dataclass from plain dicts, lists and scalars, each checked against its hint.

    Args:
        place: prefix of the field names in messages, such as "data.".

    Raises:
        FieldError: the first field that does not fit.
    """
    if not isinstance(plain, dict):
        raise FieldError(f"{place.rstrip('.') or cls.__name__} is {shown(plain)}; give a mapping")
    hints = get_type_hints(cls, include_extras=True)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if unknown := sorted(str(name) for name in set(plain) - set(fields)):
        raise FieldError(f"{cls.__name__} has no field {listed(unknown)}; it has {', '.join(sorted(fields))}")
    for name, field in fields.items():
        if name not in plain and field.default is field.default_factory is dataclasses.MISSING:
            raise FieldError(f"{place}{name} is missing; give {_wanted(hints[name])}")
    return cls(**{name: _convert(value, hints[name], f"{place}{name}") for name, value in plain.items()})


def check_fields(config: Any) -> None:
    """Check the values of a dataclass built in Python. Raises FieldError as `converted` does."""
    hints = get_type_hints(type(config), include_extras=True)
    for field in dataclasses.fields(config):
        _convert(getattr(config, field.name), hints[field.name], field.name, built=True)


def _convert(value: Any, hint: Any, name: str, built: bool = False) -> Any:
    """Convert `value` to its `hint`: lists become tuples, words members of an Enum, mappings dataclasses."""
    bounds: tuple[Any, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *rest = get_args(hint)
        bounds = tuple(rest)
    result = _of_type(value, hint, name, bounds, built)
    if not all(bound.holds(result) for bound in bounds if result is not None):
        raise _wrong(name, value, hint, bounds)
    return result


def _of_type(value: Any, hint: Any, name: str, bounds: tuple[Any, ...], built: bool) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    wrong = _wrong(name, value, hint, bounds)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _of_union(value, arguments, name, wrong, built)
    if origin is Literal:
        if value is False and "no" in arguments and not built:
            return "no"  # what YAML reads an unquoted no as
        if not (isinstance(value, str) and value in arguments):
            raise wrong
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise wrong
        each = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(each) != len(value):
            raise wrong
        return tuple(
            _convert(item, of, f"{name}[{place}]", built)
            for place, (item, of) in enumerate(zip(value, each, strict=True))
        )
    if origin is dict:
        if not isinstance(value, dict):
            raise wrong
        key_hint, value_hint = arguments
        return {
            _convert(key, key_hint, f"a key in {name}"): _convert(
                item, value_hint, f"{name}.{quoted(key)[1:-1]}", built
            )
            for key, item in value.items()
        }
    if dataclasses.is_dataclass(hint):
        if isinstance(value, hint):
            return value
        if built:  # a mapping would pass, and stay one
            raise FieldError(f"{name} is {shown(value)}; give a value of type {hint.__name__}")
        return converted(hint, value, f"{name}.")
    if issubclass(hint, Enum):
        try:
            return hint(value)
        except ValueError:
            raise wrong from None
    return _of_scalar(value, hint, wrong)


def _of_union(value: Any, arguments: tuple[Any, ...], name: str, wrong: FieldError, built: bool) -> Any:
    if value is None and type(None) in arguments:
        return None
    others = [argument for argument in arguments if argument is not type(None)]
    if len(others) == 1:
        return _convert(value, others[0], name, built)
    for argument in others:
        try:
            return _convert(value, argument, name, built)
        except FieldError:
            continue
    raise wrong


def _of_scalar(value: Any, hint: type, wrong: FieldError) -> Any:
    if hint is bool:
        fits = isinstance(value, bool)
    elif hint is int:
        fits = isinstance(value, Integral) and not isinstance(value, bool)
    elif hint is float:
        fits = isinstance(value, Real) and not isinstance(value, bool) and abs(value) < 1e300 and math.isfinite(value)
    else:
        fits = isinstance(value, hint) and not (hint is str and ("\0" in value or not _is_encodable(value)))
    if not fits:
        raise wrong
    return value


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _wrong(name: str, value: Any, hint: Any, bounds: tuple[Any, ...]) -> FieldError:
    return FieldError(f"{name} is {shown(value)}; give {_wanted(hint, bounds)}")


def _wanted(hint: Any, bounds: tuple[Any, ...] = ()) -> str:
    """The values that a field accepts, in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _wanted(arguments[0], arguments[1:])
    names = {int: "an integer", float: "a number", str: "a string", bool: "true or false", type(None): "null"}
    if origin in (Union, types.UnionType):
        words = " or ".join(_wanted(argument) for argument in arguments)
    elif origin is Literal:
        words = f"one of {', '.join(map(str, arguments))}"
    elif origin is tuple and arguments[-1] is Ellipsis:
        words = "a list" if not bounds else f"a list {bounds[0].words()}"
        return f"{words}, each {_wanted(arguments[0])}"
    elif origin is tuple:
        words = f"a list of {len(arguments)}, each {_wanted(arguments[0])}"
    elif isinstance(hint, type) and issubclass(hint, Enum):
        words = f"one of {', '.join(str(member.value) for member in hint)}"
    else:
        words = names.get(hint, "a mapping")
    return " ".join([words, *(bound.words() for bound in bounds)])
