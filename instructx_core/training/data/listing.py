"""Read text listings (CSV, JSON lines, JSON lists) of any length in blocks.

They are parsed record by record with the standard library. The builders of `datasets` parse a JSON list in one piece,
and one damaged line ends their whole file; here it is one broken row.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ...bounded import UnreadableError, open_regular, parse_json
from ...errors import InputError
from ...words import one_line, quoted, quoted_path
from .rows import LONGEST_TEXT, Record

BLOCK = 256  # records per shard
LONGEST_RECORD = 4 << 20  # bytes
TOO_LONG = f"longer than {LONGEST_RECORD >> 20} MB"
WINDOW = 1 << 16  # bytes of a JSON list read at a time


@dataclass(frozen=True)
class Mark:
    """Where a record begins: byte offset, and number of the line (CSV, JSON lines) or entry (JSON list)."""

    offset: int
    number: int


RecordAndMark = tuple[Record, Mark]  # a record, and where the next one begins
Reader = Callable[[BinaryIO, "Listing", Mark], Iterator[RecordAndMark]]


@dataclass(frozen=True)
class Listing:
    """A text file of records."""

    path: Path
    reader: Reader
    names: tuple[str, ...] = ()  # a CSV's columns
    start: Mark = Mark(0, 1)

    def read(self, mark: Mark) -> Iterator[RecordAndMark]:
        """Yield the records from a mark on. Raises InputError if the file is gone."""
        with open_listing(self.path) as file:
            file.seek(mark.offset)
            yield from self.reader(file, self, mark)


@dataclass(frozen=True)
class ListingShard:
    """Up to `BLOCK` consecutive records of a listing."""

    listing: Listing
    start: Mark
    size: int
    name: str
    kinds: frozenset[bool] = field(default=frozenset({False, True}))
    told: bool = False

    def records(self, start: int) -> Iterator[Record]:
        for place, (record, _) in zip(range(self.size), self.listing.read(self.start), strict=False):
            if place >= start:
                yield record


def open_listing(path: Path) -> BinaryIO:
    try:
        return open_regular(path)
    except UnreadableError as error:
        raise InputError(
            f"The table {quoted_path(path)} cannot be read: {error.reason}; give a CSV with columns source, target, "
            "instruction, or a public data set as published."
        ) from error


def find_listing(path: Path) -> Listing:
    """Recognise the format of a text listing by its first character.

    Raises:
        InputError: the file cannot be read, or its header is not valid CSV.
    """
    with open_listing(path) as file:
        head = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
        if head[:1] == b"[":
            return Listing(path, _json_entries)
        if head[:1] == b"{":
            return Listing(path, _json_lines)
        file.seek(0)
        lines = _Lines(file, path, Mark(0, 1))
        try:
            names = next(filter(None, csv.reader(lines)), [])  # blank lines before the header are skipped
        except csv.Error as error:
            place = f"Line {lines.mark.number - 1} of {quoted_path(path)}"
            raise InputError(f"{place} is not valid CSV: {one_line(error, 100)}.") from error
        return Listing(path, _csv_lines, tuple(names), lines.mark)


class _Lines:
    """The lines of a file from a mark on, as text; `mark` is always after the last line returned.

    `is_over` is set when a line beyond the last is requested, which parsing a complete CSV row never does.
    Undecodable bytes become lone surrogates, so that the record with them can be reported.
    """

    def __init__(self, file: BinaryIO, path: Path, mark: Mark) -> None:
        self.file, self.path, self.mark = file, path, mark
        self.is_over = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.file.readline(LONGEST_RECORD)
        if not line:
            self.is_over = True
            raise StopIteration
        if len(line) == LONGEST_RECORD:
            raise InputError(f"{quoted_path(self.path)} is not a listing: one of its lines is {TOO_LONG}.")
        first = self.mark.offset == 0
        self.mark = Mark(self.mark.offset + len(line), self.mark.number + 1)
        return line.decode("utf-8-sig" if first else "utf-8", "surrogateescape")


def _csv_lines(file: BinaryIO, listing: Listing, mark: Mark) -> Iterator[RecordAndMark]:
    names, lines = listing.names, _Lines(file, listing.path, mark)
    reader = csv.reader(lines)
    while True:
        begun = lines.mark
        try:
            values = next(reader, None)
            problem = "its quotes are not closed" if values and lines.is_over else ""
        except csv.Error as error:
            values, problem = [], f"it is not valid CSV ({one_line(error, 100)})"
        if problem:  # it may have swallowed intact rows: give up only its first line
            file.seek(begun.offset)
            lines = _Lines(file, listing.path, begun)
            next(lines)
            reader = csv.reader(lines)
            yield Record(_place("Line", begun.number, listing), problem=problem), lines.mark
            continue
        if values is None:
            return
        if not values:
            continue
        place = _place("Line", lines.mark.number - 1, listing)
        if any(not _is_text(value) for value in values):
            yield Record(place, problem="it is not UTF-8; save it as UTF-8"), lines.mark
        elif len(values) > len(names):
            problem = "it has more fields than the header; put texts with commas in quotes"
            yield Record(place, problem=problem), lines.mark
        else:
            yield Record(place, dict(zip(names, values, strict=False))), lines.mark


def _json_lines(file: BinaryIO, listing: Listing, mark: Mark) -> Iterator[RecordAndMark]:
    lines = _Lines(file, listing.path, mark)
    for line in lines:
        if line.strip():
            yield _json_record(line, _place("Line", lines.mark.number - 1, listing)), lines.mark


def _json_entries(file: BinaryIO, listing: Listing, mark: Mark) -> Iterator[RecordAndMark]:
    """Yield the entries of a JSON list one by one.

    Their ends are searched in Latin-1, where a character is one byte and JSON's punctuation is the same as in UTF-8.
    """
    scan = json.JSONDecoder().raw_decode
    window, offset, number = "", mark.offset, mark.number
    while True:
        place = _place("Entry", number, listing)
        trimmed = window.lstrip("\xef\xbb\xbf[, \t\r\n")
        offset += len(window) - len(trimmed)
        window = trimmed
        problem = ""
        try:
            end = scan(window)[1] if window else 0
        except RecursionError:
            problem, end = "it is nested too deeply", 0
        except ValueError:
            end = 0
        # a number or a literal may continue beyond the window
        if 0 < end < len(window):
            yield _json_record(window[:end].encode("latin-1"), place), Mark(offset + end, number + 1)
            window, offset, number = window[end:], offset + end, number + 1
            continue
        more = "" if window.startswith("]") or problem else file.read(max(WINDOW, len(window))).decode("latin-1")
        if more and len(window) <= LONGEST_RECORD:
            window += more
        elif window.startswith("]"):
            return
        else:  # where the next entry would begin is unknown
            problem = problem or (f"it is {TOO_LONG}" if more else "it is not valid JSON, or the file is cut off there")
            yield Record(place, problem=f"{problem}, and nothing after it can be read"), Mark(offset, number + 1)
            return


def _json_record(text: str | bytes, place: str) -> Record:
    try:
        # encoding fails on lone surrogates, which stand for bytes that are not UTF-8
        value = parse_json(text.encode() if isinstance(text, str) else text, place, LONGEST_RECORD)
    except UnreadableError as error:
        return Record(place, problem=f"it cannot be read: {error.reason}")
    except UnicodeError:
        return Record(place, problem="it is not UTF-8; save it as UTF-8")
    if not isinstance(value, dict):
        return Record(place, problem="it is not a JSON object")
    return Record(place, value)


def _place(kind: str, number: int, listing: Listing) -> str:
    return f"{kind} {number} of {quoted(listing.path.name)}"


def _is_text(text: str) -> bool:
    return len(text) <= LONGEST_TEXT and not any("\udc80" <= letter <= "\udcff" for letter in text)
