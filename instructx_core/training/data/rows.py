"""An editing pair as listed in a data set, its files located but not read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

from ...images import IMAGE_SUFFIXES
from ...source import is_video_file
from ...video import VIDEO_SUFFIXES

LONGEST_TEXT = 1 << 17  # characters of an instruction or a path, the csv module's own limit
MOST_BYTES = 256 << 20  # of an encoded picture or clip inside a table
Named: TypeAlias = "str | bytes"  # a file name, or an encoded picture
Media: TypeAlias = "Path | bytes"


class Address(NamedTuple):
    """A row's shard in its table, and its number in the shard."""

    shard: int
    row: int


class RowError(Exception):
    """A row cannot be used; the message is shown after the row's place."""


class LeftOut(Exception):
    """An intact row that is not used: it is not an edit, or has no words."""


@dataclass(frozen=True)
class Record:
    """One entry of a listing, before a layout has read it. `problem` says why it has no fields."""

    place: str  # "Line 7 of 'pairs.csv'"
    fields: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class ListedPair:
    """A record as read by its layout."""

    source: Named
    target: Named
    instruction: str
    references: tuple[Named, ...] = ()
    caption: str = ""  # of the target
    mask: Named | None = None  # white where the edit is


@dataclass(frozen=True)
class Row:
    """A pair whose files exist."""

    place: str
    source: Media
    target: Media
    references: tuple[Media, ...]
    instruction: str
    caption: str

    @property
    def name(self) -> str:
        """The place as it reads within a sentence, for messages."""
        return self.place[:1].lower() + self.place[1:]

    @property
    def nbytes(self) -> int:
        """Bytes held in memory, not counting texts."""
        return sum(len(media) for media in (self.source, self.target, *self.references) if isinstance(media, bytes))


class Shard(Protocol):
    """Rows of a data set that are stored together; reading may start at any of them."""

    name: str  # for messages
    kinds: frozenset[bool]  # whether it may hold videos (True), pictures (False)
    told: bool  # whether the names in it told these kinds, so that it holds each
    size: int | None  # number of records, if known without reading them

    def records(self, start: int) -> Iterator[Record]:
        """Records from number `start` on; damaged ones have a `problem`. Raises RowError if the rest is unreadable."""


def kinds_of(name: Named) -> frozenset[bool]:
    """What a file may be, by its name: True for a video, False for a picture; .gif may be either."""
    if isinstance(name, bytes):
        return frozenset({_is_encoded_clip(name)})
    suffix = name[name.rfind(".") :].lower()
    if suffix == ".gif" or suffix not in (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES):
        return frozenset({False, True})
    return frozenset({suffix in VIDEO_SUFFIXES})


def _is_encoded_clip(data: bytes) -> bool:
    """True for MP4, MOV, Matroska and WebM, by their first bytes; HEIF and AVIF pictures begin like MP4."""
    mp4 = data[4:8] == b"ftyp" and data[8:12] not in (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
    return mp4 or data[:4] == b"\x1a\x45\xdf\xa3"


def is_video(media: Media) -> bool:
    """True for a video, False for a picture; opens it if its name does not tell. Raises InputError if neither."""
    if isinstance(media, bytes):
        return _is_encoded_clip(media)
    kinds = kinds_of(media.name)
    return is_video_file(media) if len(kinds) > 1 else True in kinds
