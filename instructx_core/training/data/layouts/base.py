"""Layouts: which field names identify a data set's records, and what they mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ....words import quoted, shown
from ..rows import LONGEST_TEXT, MOST_BYTES, ListedPair, Named, RowError

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Layout:
    """How the records of one data set describe an edit.

    Attributes:
        name: of the data set, for messages.
        needed: field names that every record has; a tuple means any one of its names.
        read: a record's fields -> the pair. Raises RowError, LeftOut.
        folders: subfolders of the listing's folder that hold its files.
        optional: additional names that `read` uses.
        members: for archives, the suffixes to read.
        scores: a record's fields -> what filters may name.
    """

    name: str
    needed: tuple[str | tuple[str, ...], ...]
    read: Callable[[Fields], ListedPair]
    folders: tuple[str, ...] = ("",)
    optional: tuple[str, ...] = ()
    members: re.Pattern[str] | None = None
    scores: Callable[[Fields], Fields] = dict

    def fits(self, names: set[str]) -> bool:
        return all(names & ({need} if isinstance(need, str) else set(need)) for need in self.needed)

    @property
    def names(self) -> set[str]:
        """All field names that `read` uses."""
        return {name for need in self.needed for name in ((need,) if isinstance(need, str) else need)} | set(
            self.optional
        )


def words(fields: Fields, name: str) -> str:
    """A text field, stripped; "" if there is none."""
    value = fields.get(name)
    if value is None:
        return ""
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError as error:
            raise RowError(f"its {name} is not UTF-8") from error
    if not isinstance(value, str):
        raise RowError(f"its {name} is {shown(value)}, not text")
    if len(value) > LONGEST_TEXT:
        raise RowError(f"its {name} has more than {LONGEST_TEXT:,} characters")
    return value.strip()


def needed_words(fields: Fields, name: str) -> str:
    """A text field, stripped. Raises RowError if there is none."""
    if not (text := words(fields, name)):
        raise RowError(f"it has no {name}")
    return text


def picture(fields: Fields, name: str) -> Named:
    """A file name or a picture's bytes. Raises RowError if there is none."""
    value = fields.get(name)
    if isinstance(value, bytes) and value:
        if len(value) > MOST_BYTES:
            raise RowError(f"its {name} has {len(value) >> 20} MB, over the limit of {MOST_BYTES >> 20} MB")
        return value
    return needed_words(fields, name)


def optional_picture(fields: Fields, name: str) -> tuple[Named, ...]:
    return (picture(fields, name),) if fields.get(name) else ()


def mapped(columns: Mapping[str, str]) -> Layout:
    """The layout that a config's `columns` defines: our names -> those of the data set."""

    def read(fields: Fields) -> ListedPair:
        own = {ours: fields.get(theirs) for ours, theirs in columns.items()}
        return plain(own)

    needed = tuple(theirs for ours, theirs in columns.items() if ours in ("source", "target", "instruction"))
    return Layout(f"columns {', '.join(map(quoted, needed))}", needed, read, optional=tuple(columns.values()))


def plain(fields: Fields) -> ListedPair:
    """Read a record that uses our own field names."""
    source, target = picture(fields, "source"), picture(fields, "target")
    caption = words(fields, "caption")
    instruction = words(fields, "instruction") if caption else needed_words(fields, "instruction")
    reference = fields.get("reference")
    if isinstance(reference, str):
        references = tuple(part.strip() for part in words(fields, "reference").split(";") if part.strip())
    elif isinstance(reference, list):
        references = tuple(picture({"reference": one}, "reference") for one in reference)
    else:
        references = optional_picture(fields, "reference")
    mask = next(iter(optional_picture(fields, "mask")), None)
    return ListedPair(source, target, instruction, references, caption, mask)
