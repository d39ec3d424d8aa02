"""A benchmark as values: cases, what a judge is asked of each, and how its answers become scores.

A benchmark is a list of cases and a scoring rule; everything else (editing, judging, logs, tables) is the same for all.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from ...bounded import is_file, why
from ...errors import InputError
from ...images import write_image
from ...words import quoted, quoted_path
from ..judges import Question
from ..listing import text_of

UNSAFE = re.compile(r"[^\w.-]+")
LONGEST_NAME = 120
WHOLE: Mapping[str, Mapping[str, str]] = {"all cases": {}}


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        key: unique in its benchmark; also the name of the edit's file.
        group: the kind of edit, over which scores are first averaged.
        references: pictures of a subject to use.
        tags: further groupings, such as {"language": "en"}.
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
        """For a line of `cases.jsonl`, which `instructx study` reads too."""
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


@dataclass(frozen=True)
class Columns:
    """Which column of a list holds what, and how it calls its groups.

    Attributes:
        names: of `key`, `source`, `instruction`, `group`, `references` and `word` -> the list's own.
        groups: a group as the list calls it -> as tables call it.
        table: the list's file in the data folder, where a folder has several.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    table: str | None = None

    def over(self, usual: Mapping[str, str]) -> dict[str, str]:
        return {**usual, **self.names}


class Bench(Protocol):
    """One benchmark.

    Attributes:
        name: as the command line calls it.
        title: as people call it.
        count: cases in the published one, None where that is not known.
        scores: names of a case's scores, the one that sums it up last.
        summaries: name of a mean over groups -> the groups; an empty tuple is all that there are.
        subsets: name -> tags of the cases that it averages, each by itself.
    """

    name: str
    title: str
    count: int | None
    scores: tuple[str, ...]
    summaries: Mapping[str, tuple[str, ...]]
    subsets: Mapping[str, Mapping[str, str]]

    def cases(self, data: Path, columns: Columns, scratch: Path) -> list[Case]:
        """The cases of a download.

        Args:
            data: its folder.
            columns: what differs from the usual names.
            scratch: a folder for pictures that are inside of tables.

        Raises:
            InputError: another layout, or a file that is missing.
        """

    def questions(self, case: Case, prompts: Mapping[str, str]) -> list[Question]:
        """What a judge is asked; `prompts` are those of the download, by name, and take the place of our own."""

    def score(self, answers: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Name in `scores` -> value, from the answers to all questions."""


def safe_name(text: str) -> str:
    """A key as a file's name: letters, digits, and _ . - alone."""
    return UNSAFE.sub("_", text).strip("._")[:LONGEST_NAME] or "case"


def inner_folder(folder: Path) -> Path:
    """A folder inside of a run's, made where it is not there. Raises InputError where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{quoted_path(folder.parent)} cannot be a run's folder: {quoted_path(folder)} cannot be made "
            f"({why(error)}); give another folder."
        ) from error
    return folder


def picture_file(folder: Path, name: str, content: bytes, decode: Callable[[], Tensor]) -> Path:
    """A picture that is inside of a table as a file, written once.

    Args:
        content: what the table holds of it. A hash of it is in the file's name, so that another table's picture of
            the same name is not taken for it.
        decode: gives its pixels [H, W, 3] in [0, 1]; called where the file is not there.

    Raises InputError where it cannot be written.
    """
    path = folder / f"{name}-{hashlib.sha256(content).hexdigest()[:12]}.png"
    if not path.is_file():
        inner_folder(folder)
        write_image(decode(), path)
    return path


def check_cases(cases: Sequence[Case], where: Path) -> list[Case]:
    """The cases, looked at before any is edited.

    Raises:
        InputError: none, two of one key, or a file that is not there.
    """
    if not cases:
        raise InputError(f"{quoted_path(where)} lists no cases; check the download.")
    seen: set[str] = set()
    for case in cases:
        if case.key in seen:
            raise InputError(
                f"{quoted_path(where)} lists the case {quoted(case.key)} twice; give a column of unique keys."
            )
        seen.add(case.key)
        for path in (case.source, *case.references, *([case.mask] if case.mask else [])):
            if not is_file(path):
                raise InputError(
                    f"The case {quoted(case.key)} names {quoted_path(path)}, which is not there; get it too."
                )
    return list(cases)


def one_of(data: Path, names: Sequence[str], what: str) -> Path:
    """The first of these files in a folder. Raises InputError where there is none."""
    for name in names:
        if is_file(data / name):
            return data / name
    raise InputError(f"{quoted_path(data)} has no {names[0]}; give the folder of {what}.")


def one_listing(data: Path, table: str | None, names: Sequence[str], what: str) -> Path:
    """The list of a benchmark: the one that is named, a usual one, or the only one in the folder.

    Raises InputError where that is none, or more than one.
    """
    if table is not None:
        return one_of(data, (table,), what)
    for name in names:
        if is_file(data / name):
            return data / name
    found = sorted(path for suffix in ("*.csv", "*.jsonl", "*.json") for path in data.glob(suffix))
    if len(found) != 1:
        raise InputError(
            f"{quoted_path(data)} has {len(found)} lists of cases (.csv, .json, .jsonl); name one by `table:` "
            "in --columns."
        )
    return found[0]


def paths_of(row: Mapping[str, Any], column: str | None, root: Path, place: str) -> tuple[Path, ...]:
    """Files that an optional column names: a text, texts separated by ';', or a list of texts."""
    value = row.get(column) if column else None
    if value is None or value == "":
        return ()
    texts = value if isinstance(value, list) else [text_of(row, str(column), place)]
    if not all(isinstance(text, str) for text in texts):
        raise InputError(f"{place}: the column {column!r} holds no file names.")
    return tuple(root / part.strip() for text in texts for part in text.split(";") if part.strip())
