"""Read WebDataset archives through `webdataset`; a shard is one tar file.

None of the library's decoders runs: members are read as bytes, and only those that the layout names, so a pickle or a
Python file among them is never opened. An archive's headers are scanned first: links, devices and members over
256 MB make broken rows.

Some published archives, X2Edit's for one, are several archives concatenated, each with its end mark, and keys repeat
among them. So a sample is consecutive members with one key, each suffix once.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ...bounded import UnreadableError, open_regular
from ...errors import InputError
from ...video import VIDEO_SUFFIXES
from ...words import one_line, quoted, quoted_path
from .extras import LibraryMissingError, library
from .rows import MOST_BYTES, Record, RowError

WHAT = "WebDataset archives"
NO_VIDEO = frozenset({False})


class ArchiveEnd(NamedTuple):
    """Where an archive ends early, and why."""

    offset: int
    reason: str


@dataclass
class MemberGroup:
    """Consecutive members with one key."""

    key: str
    offset: int  # of the first one's header
    end: int = 0  # of the last one's padded content
    suffixes: list[str] = field(default_factory=list)
    problem: str = ""


@dataclass(frozen=True)
class TarShard:
    """An archive; its records map the suffix of each member, such as "1.jpg", to its bytes."""

    path: Path
    members: re.Pattern[str]  # suffixes to read
    name: str
    kinds: frozenset[bool] = field(default=frozenset({False}))
    told: bool = True
    size: int | None = None

    def records(self, start: int) -> Iterator[Record]:
        try:
            with open_regular(self.path) as file:
                groups, cut = _groups(_Bounded(file), self.members)
                for group in groups[start:]:
                    place = f"{quoted(group.key)} in {quoted(self.path.name)}"
                    yield (
                        Record(place, problem=group.problem)
                        if group.problem
                        else Record(place, self._fields(file, group))
                    )
        except UnreadableError as error:
            raise RowError(f"it cannot be read: {error.reason}") from error
        except (OSError, ValueError, tarfile.TarError, EOFError) as error:
            raise RowError(f"it is not a tar archive, or is damaged ({one_line(error, 150)})") from error
        if cut is not None and start <= len(groups):  # else it was reported before
            raise RowError(f"it is cut off in or after sample {len(groups)} ({cut.reason})")

    def count(self) -> int:
        """The number of records, from the headers; 0 if the archive cannot be read."""
        try:
            return len(_opened(self.path, self.members))
        except InputError:
            return 0

    def _fields(self, file: BinaryIO, group: MemberGroup) -> dict[str, Any]:
        """The members of a sample that the layout reads."""
        iterators = library("webdataset.tariterators", WHAT)

        def wanted(name: str) -> bool:
            suffix = iterators.base_plus_ext(name)[1]
            return suffix is not None and bool(self.members.fullmatch(suffix.lower()))

        file.seek(group.offset)  # reading may start at any header
        files = iterators.tar_file_iterator(_Until(file, group.end), skip_meta=None, select_files=wanted)
        sample = next(iterators.group_by_keys({**found, "__url__": ""} for found in files))
        return {name: value for name, value in sample.items() if not name.startswith("__")}


def tar_suffixes(path: Path) -> set[str]:
    """The suffixes of an archive's first sample. Raises InputError if it cannot be read."""
    groups = _opened(path, re.compile(".+"), most=1)
    return set(groups[0].suffixes) if groups else set()


def tar_kinds(path: Path, members: re.Pattern[str]) -> frozenset[bool]:
    """Whether an archive has videos (True), pictures (False), or both. Raises InputError as `tar_suffixes`."""
    groups = _opened(path, members)
    return frozenset(any(name.endswith(VIDEO_SUFFIXES) for name in group.suffixes) for group in groups) or NO_VIDEO


def _opened(path: Path, members: re.Pattern[str], most: int | None = None) -> list[MemberGroup]:
    try:
        with open_regular(path) as file:
            return _groups(_Bounded(file), members, most)[0]
    except LibraryMissingError:
        raise
    except UnreadableError as error:
        raise InputError(f"The table {quoted_path(path)} cannot be read: {error.reason}.") from error
    except (OSError, ValueError, tarfile.TarError, EOFError) as error:
        raise InputError(
            f"{quoted_path(path)} is not a tar archive, or is damaged ({one_line(error, 150)})."
        ) from error


class _Bounded:
    """A file with a limit on each read, the largest member's size: a header may claim a name of any length."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self._file = file.seek, file.tell, file

    def read(self, count: int) -> bytes:
        if not 0 <= count <= MOST_BYTES:
            raise ValueError(f"a header claims {count} bytes")
        return self._file.read(count)


class _Until:
    """A file that ends at a given byte."""

    def __init__(self, file: BinaryIO, end: int) -> None:
        self._file, self._end = file, end

    def read(self, count: int) -> bytes:
        return self._file.read(max(0, min(count, self._end - self._file.tell())))


def _groups(
    file: Any, members: re.Pattern[str], most: int | None = None
) -> tuple[list[MemberGroup], ArchiveEnd | None]:
    """The samples of an archive, from its headers, and where it ends early, if it does."""
    split = library("webdataset.tariterators", WHAT).base_plus_ext
    groups: list[MemberGroup] = []
    for info in _headers(file):
        if isinstance(info, ArchiveEnd):
            if groups and groups[-1].end > info.offset:
                groups[-1].problem = "it is cut off"
            return groups, info
        key, suffix = split(info.name)
        if key is None or info.isdir() or not members.fullmatch(suffix.lower()):
            continue
        if not groups or groups[-1].key != key or suffix.lower() in groups[-1].suffixes:
            if most is not None and len(groups) == most:
                break
            groups.append(MemberGroup(key, info.offset))
        group = groups[-1]
        if not info.isreg():
            group.problem = f"its {quoted(suffix)} is a link or device, not a file"
        elif info.size > MOST_BYTES:
            group.problem = f"its {quoted(suffix)} has {info.size >> 20} MB, over the limit of {MOST_BYTES >> 20} MB"
        group.suffixes.append(suffix.lower())
        group.end = info.offset_data + -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return groups, None


def _headers(file: Any) -> Iterator[tarfile.TarInfo | ArchiveEnd]:
    """The headers of all archives concatenated in a file, and an `ArchiveEnd` if it ends early."""
    offset, met = 0, False
    while True:
        file.seek(offset)
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                while (info := archive.next()) is not None:
                    archive.members.clear()
                    met = True
                    yield info
                offset = archive.offset
        except (OSError, ValueError, tarfile.TarError) as error:
            if not met:
                raise
            yield ArchiveEnd(_size(file), one_line(error, 100))
            return
        end = _behind_zeros(file, offset)
        if end == offset:
            yield ArchiveEnd(end, "it has no end-of-archive marker")  # blocks of zeros
        if end in (offset, _size(file)):
            return
        offset = end


def _behind_zeros(file: Any, offset: int) -> int:
    """The offset of the first block from `offset` on that is not all zeros, as in an end mark."""
    file.seek(offset)
    while block := file.read(tarfile.BLOCKSIZE):
        if any(block):
            return offset
        offset += len(block)
    return offset


def _size(file: Any) -> int:
    return file.seek(0, os.SEEK_END)
