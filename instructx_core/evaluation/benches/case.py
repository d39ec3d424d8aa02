"""The definition of a benchmark: its cases, the questions to a judge, and how answers become scores.

Everything else (editing, judging, logs, tables) is shared by all benchmarks.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from ...bounded import is_file, why
from ...errors import InputError
from ...images import write_image
from ...words import listed, quoted, quoted_path, shown
from ..judges import Question
from ..listing import text_of

UNSAFE = re.compile(r"[^\w.-]+")
LONGEST_NAME = 120  # bytes; file systems take 255, and a name gets an ending
Row = tuple[str, Mapping[str, Any]]  # its place for messages, column -> value
WHOLE: Mapping[str, Mapping[str, str]] = {"all cases": {}}


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        key: unique within the benchmark; also names the file of the edit.
        group: the kind of edit; scores are first averaged per group.
        references: pictures of a subject to use.
        tags: additional groupings, such as {"language": "en"}.
        mask: white where the edit may change something.
        word: what the edited region should show.
    """

    key: str
    source: Path
    instruction: str
    group: str
    references: tuple[Path, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    mask: Path | None = None
    word: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The case as a line of `cases.jsonl`, which `instructx study` also reads."""
        return {
            "key": self.key,
            "source": str(self.source.resolve()),
            "instruction": self.instruction,
            "group": self.group,
            "references": [str(path.resolve()) for path in self.references],
            "tags": dict(self.tags),
            "mask": str(self.mask.resolve()) if self.mask else None,
            "word": self.word,
        }

    def identity(self) -> dict[str, Any]:
        """The same wherever the files lie: their names without folders."""
        return {
            **self.to_dict(),
            "source": self.source.name,
            "references": [path.name for path in self.references],
            "mask": self.mask.name if self.mask else None,
        }


@dataclass(frozen=True)
class Columns:
    """The column and group names of a list of cases.

    Attributes:
        names: our name (`key`, `source`, `instruction`, `group`, `references`, `word`) -> the list's column.
        groups: the list's name of a group -> the name in our tables.
        table: the list's file in the data folder, if that holds several.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    table: str | None = None

    def over(self, usual: Mapping[str, str]) -> dict[str, str]:
        """Our name -> the list's column. Raises InputError for a name that the benchmark does not use."""
        if unknown := sorted(self.names.keys() - usual.keys()):
            raise InputError(f"--columns: there is no column {listed(unknown)}; choose from {', '.join(usual)}.")
        return {**usual, **self.names}

    def seen_in(self, rows: Iterable[Row], listing: Path) -> Iterator[Row]:
        """Pass the rows of a list on. Raises InputError after the last if none has a column that `names` gives."""
        absent, row = dict(self.names), None
        for place, row in rows:
            absent = {name: column for name, column in absent.items() if column not in row}
            yield place, row
        for name, column in absent.items() if row is not None else ():
            raise InputError(
                f"--columns: {name} is {quoted(column)}, which no row of {quoted_path(listing)} has; name another "
                "column, or leave it out."
            )


class Bench(Protocol):
    """One benchmark.

    Attributes:
        name: on the command line.
        title: the published name.
        count: cases in the published version, None if unknown.
        scores: names of a case's scores, the overall score last.
        summaries: name of a mean over groups -> the groups; an empty tuple means all groups.
        subsets: name -> tags that select its cases; each subset is averaged separately.
    """

    name: str
    title: str
    count: int | None
    scores: tuple[str, ...]
    summaries: Mapping[str, tuple[str, ...]]
    subsets: Mapping[str, Mapping[str, str]]

    def cases(self, data: Path, columns: Columns, scratch: Path) -> list[Case]:
        """The cases of a downloaded benchmark.

        Args:
            data: the download's folder.
            columns: names that differ from the usual ones.
            scratch: a folder for pictures extracted from tables.

        Raises:
            InputError: unknown layout, or a missing file.
        """

    def questions(self, case: Case, prompts: Mapping[str, str]) -> list[Question]:
        """The questions to a judge; `prompts` (name -> text, from the download) replace our own."""

    def score(self, answers: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Name in `scores` -> value, computed from the answers to all questions."""


def safe_name(text: str) -> str:
    """A key as a file name: only letters, digits, and _ . - remain."""
    name = UNSAFE.sub("_", text).strip("._").encode()[:LONGEST_NAME]
    return name.decode(errors="ignore") or "case"


def inner_folder(folder: Path) -> Path:
    """Create a folder inside a run's folder if it is missing. Raises InputError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{quoted_path(folder)} cannot be created ({why(error)}); give another folder for the run."
        ) from error
    return folder


def picture_file(folder: Path, name: str, content: bytes, decode: Callable[[], Tensor]) -> Path:
    """Write a picture that is embedded in a table to a file, unless that file exists; return its path.

    Args:
        content: the bytes in the table. Their hash is part of the file name, so that pictures of the same name from
            different tables are not mixed up.
        decode: returns the pixels [H, W, 3] in [0, 1]; called only if the file is missing.

    Raises InputError if the file cannot be written.
    """
    path = folder / f"{name}-{hashlib.sha256(content).hexdigest()[:12]}.png"
    if not path.is_file():
        inner_folder(folder)
        write_image(decode(), path)
    return path


def check_cases(cases: Sequence[Case], where: Path) -> list[Case]:
    """Check the cases before any of them is edited, and return them.

    Raises:
        InputError: no cases, two with the same key, or a missing file.
    """
    if not cases:
        raise InputError(f"{quoted_path(where)} lists no cases; check the download.")
    seen: set[str] = set()
    for case in cases:
        if case.key in seen:
            raise InputError(
                f"{quoted_path(where)} lists the case {quoted(case.key)} twice; give a column with unique keys."
            )
        seen.add(case.key)
        for path in (case.source, *case.references, *([case.mask] if case.mask else [])):
            if not is_file(path):
                raise InputError(
                    f"The case {quoted(case.key)} needs {quoted_path(path)}, which is missing; download it too."
                )
    return list(cases)


def one_of(data: Path, names: Sequence[str], what: str) -> Path:
    """The first of these files that exists in a folder. Raises InputError if none does."""
    for name in names:
        if is_file(data / name):
            return data / name
    raise InputError(f"{quoted_path(data)} has no {names[0]}; give the folder of {what}.")


def one_listing(data: Path, table: str | None, names: Sequence[str], what: str) -> Path:
    """A benchmark's list of cases: the file `table`, else one of `names`, else the only list in the folder.

    Raises InputError if none is found, or several.
    """
    if table is not None:
        return one_of(data, (table,), what)
    for name in names:
        if is_file(data / name):
            return data / name
    found = sorted(path for suffix in ("*.csv", "*.jsonl", "*.json") for path in data.glob(suffix))
    if len(found) != 1:
        raise InputError(
            f"{quoted_path(data)} has {len(found)} lists of cases (.csv, .json, .jsonl); name one with `table:` "
            "in --columns."
        )
    return found[0]


def paths_of(row: Mapping[str, Any], column: str | None, root: Path, place: str) -> tuple[Path, ...]:
    """The files named in an optional column: a path, paths separated by ';', or a list of either."""
    value = row.get(column) if column else None
    if value is None or value == "":
        return ()
    texts = value if isinstance(value, list) else [text_of(row, str(column), place)]
    if not all(isinstance(text, str) for text in texts):
        raise InputError(f"{place}: the column {column!r} holds {shown(value)}; give file names.")
    return tuple(root / part.strip() for text in texts for part in text.split(";") if part.strip())
