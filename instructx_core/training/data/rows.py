"""One pair as a data set lists it, its files found but not read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

from ...images import IMAGE_SUFFIXES
from ...source import is_video_file
from ...video import VIDEO_SUFFIXES

LONGEST_TEXT = 1 << 17  # characters of an instruction or a path, the csv module's own bound
MOST_BYTES = 256 << 20  # of an encoded picture inside of a table
Named: TypeAlias = "str | bytes"  # a file's name, or a picture itself as its file has it
Media: TypeAlias = "Path | bytes"


class Address(NamedTuple):
    """Where a row is: which shard of its table, and which row of it."""

    shard: int
    row: int


class RowError(Exception):
    """Why one row cannot be used, in words that follow its place."""


class LeftOut(Exception):
    """A row that is whole but not wanted: filtered out, or no edit."""


@dataclass(frozen=True)
class Record:
    """One entry of a listing, before a layout has read it. `problem` says why it has no fields."""

    place: str  # "Line 7 of 'pairs.csv'"
    fields: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class ListedPair:
    """What a layout makes of a record."""

    source: Named
    target: Named
    instruction: str
    references: tuple[Named, ...] = ()
    caption: str = ""  # of the target
    mask: Named | None = None  # white where the edit is


@dataclass(frozen=True)
class Row:
    """A pair whose files are there."""

    place: str
    source: Media
    target: Media
    references: tuple[Media, ...]
    instruction: str
    caption: str

    @property
    def name(self) -> str:
        """For messages, within a sentence."""
        return self.place[:1].lower() + self.place[1:]

    @property
    def nbytes(self) -> int:
        """Bytes of what it holds in memory, beside its texts."""
        return sum(len(media) for media in (self.source, self.target, *self.references) if isinstance(media, bytes))


class Shard(Protocol):
    """Some rows of a data set that are stored together; reading may begin at any of them."""

    name: str  # for messages
    kinds: frozenset[bool]  # whether it may hold videos (True), pictures (False)
    size: int | None  # records, where they are known without reading them

    def records(self, start: int) -> Iterator[Record]:
        """Records from number `start` on; one that is damaged has a `problem`. Raises RowError where no more can be."""


def kinds_of(name: Named) -> frozenset[bool]:
    """What a file may be, by its name: True for a video, False for a picture; .gif may be either."""
    if isinstance(name, bytes):
        return frozenset({_is_encoded_clip(name)})
    suffix = name[name.rfind(".") :].lower()
    if suffix == ".gif" or suffix not in (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES):
        return frozenset({False, True})
    return frozenset({suffix in VIDEO_SUFFIXES})


def _is_encoded_clip(data: bytes) -> bool:
    """MP4 or MOV, Matroska or WebM by their first bytes; HEIF and AVIF pictures begin as MP4 does."""
    mp4 = data[4:8] == b"ftyp" and data[8:12] not in (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
    return mp4 or data[:4] == b"\x1a\x45\xdf\xa3"


def is_video(media: Media) -> bool:
    """What a file is; it is opened where its name does not say. Raises InputError where it is neither."""
    if isinstance(media, bytes):
        return _is_encoded_clip(media)
    kinds = kinds_of(media.name)
    return is_video_file(media) if len(kinds) > 1 else True in kinds
