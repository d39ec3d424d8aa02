"""Read lists of cases: CSV with a header, a JSON list, a JSON mapping of names to cases, or JSON Lines."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bounded import CONFIG_BYTES, parse_json, read_text
from ..errors import InputError
from ..words import escaped, quoted_path, shown

SUFFIXES = (".csv", ".json", ".jsonl")
MOST_BYTES = 16 * CONFIG_BYTES


@dataclass(frozen=True)
class ListedCase:
    """A row of a study's list; `source` is relative to the list's folder."""

    name: str
    source: str
    instruction: str


def read_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The rows of a list, each with its place for messages.

    In a JSON mapping, a row without a "key" gets its key in the mapping.

    Raises:
        InputError: another file type, or a row that is not a mapping.
    """
    name = quoted_path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{name} is not a list of cases; give a file with one of the suffixes {', '.join(SUFFIXES)}.")
    text = read_text(path, MOST_BYTES)
    if path.suffix.lower() == ".csv":
        rows: Iterator[tuple[object, Any]] = _csv_rows(text, name)
    elif path.suffix.lower() == ".jsonl":
        lines = ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
        rows = ((f"line {number}", parse_json(line, f"Line {number} of {name}")) for number, line in lines)
    else:
        value = parse_json(text, name, MOST_BYTES)
        if isinstance(value, Mapping):
            keyed = ((key, one) for key, one in value.items())
            rows = ((f"{escaped(key)}", {"key": key} | one if isinstance(one, dict) else one) for key, one in keyed)
        elif isinstance(value, list):
            rows = ((f"entry {number}", one) for number, one in enumerate(value, 1))
        else:
            raise InputError(f"{name} holds {shown(value)}; give a list of cases.")
    for place, row in rows:
        if not isinstance(row, Mapping):
            raise InputError(f"{name}, {place}: this row is {shown(row)}; give a mapping of columns to values.")
        yield f"{name}, {place}", row


def text_of(row: Mapping[str, Any], column: str, place: str) -> str:
    """The text in a row's column, integers included. Raises InputError if it is missing, empty or not a text."""
    value = row.get(column)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        problem = "is missing" if value is None else f"holds {shown(value)}"
        raise InputError(f"{place}: the column {column!r} {problem}; give text there.")
    return value


def read_listing(path: Path) -> Iterator[ListedCase]:
    """The cases of a study's list; without a column `name` (or `key`), a case is named after its source's file.

    Raises InputError as `read_rows` does, and for a missing column or two cases with the same name.
    """
    seen: set[str] = set()
    for place, row in read_rows(path):
        source = text_of(row, "source", place)
        named = next((column for column in ("name", "key") if column in row), None)
        name = text_of(row, named, place) if named else Path(source).stem
        if name in seen:
            raise InputError(f"{place}: the case {escaped(name)} is listed twice; give each case its own name.")
        seen.add(name)
        yield ListedCase(name, source, text_of(row, "instruction", place))


def _csv_rows(text: str, name: str) -> Iterator[tuple[object, Mapping[str, Any]]]:
    try:
        for number, row in enumerate(csv.DictReader(io.StringIO(text, newline="")), 2):
            if None in row or None in row.values():
                raise InputError(
                    f"{name}, row {number}: its number of fields differs from the header's; quote fields that contain "
                    "commas."
                )
            yield f"row {number}", row
    except csv.Error as error:
        raise InputError(f"{name} is not valid CSV ({error}); write it again.") from error
