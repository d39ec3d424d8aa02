"""The rows of a data set, read on demand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ...errors import InputError
from ...words import one_line
from .filters import Filter, wanted
from .layouts import Layout
from .places import Places
from .rows import Address, LeftOut, Media, Named, Record, Row, RowError, Shard


class Broken(NamedTuple):
    """A row that cannot be used: its place and why."""

    words: str


@dataclass(frozen=True)
class TablePart:
    """A shard, how its records are read, and where their files are."""

    shard: Shard
    layout: Layout
    places: Places


class Table:
    """The rows of a data set; see `opening.open_table`.

    Attributes:
        total: number of rows; None if only reading all of them would tell.
        layouts: names of the layouts found.
    """

    def __init__(self, path: Path, parts: list[TablePart], total: int | None, filters: Mapping[str, Filter]) -> None:
        self.path, self.parts, self.total, self.filters = path, parts, total, filters
        self.layouts = sorted({part.layout.name for part in parts})

    def rows(self, shard: int, start: int = 0) -> Iterator[tuple[Address, Row | Broken | None]]:
        """The rows of a shard from `start` on, with `Broken` for a broken row and None for one that is left out.

        If the rest of a shard cannot be read, each row in it is broken; if their number is unknown, that is one.
        """
        part, number = self.parts[shard], start
        try:
            for record in part.shard.records(start):
                yield Address(shard, number), self._row(part, record)
                number += 1
        except (RowError, InputError) as error:
            for row in range(number, number + 1 if part.shard.size is None else part.shard.size):
                yield Address(shard, row), Broken(f"{part.shard.name}: {one_line(error)}")

    def _row(self, part: TablePart, record: Record) -> Row | Broken | None:
        if record.problem:
            return Broken(f"{record.place}: {record.problem}")
        try:
            listed = part.layout.read(record.fields)
            if self.filters:
                mask = None if listed.mask is None else _located(listed.mask, part.places)
                if not wanted(self.filters, part.layout.scores(record.fields), mask):
                    return None
            return Row(
                place=record.place,
                source=_located(listed.source, part.places),
                target=_located(listed.target, part.places),
                references=tuple(_located(name, part.places) for name in listed.references),
                instruction=listed.instruction,
                caption=listed.caption,
            )
        except LeftOut:
            return None
        except RowError as error:
            return Broken(f"{record.place}: {error}")


def _located(name: Named, places: Places) -> Media:
    return name if isinstance(name, bytes) else places.find(name)
