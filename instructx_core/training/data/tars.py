"""WebDataset archives through `webdataset`; a shard is one tar file.

No decoder of the library runs: members come as bytes, and only those that the layout names are read at all. So a pickle
or a Python file among them is never opened. An archive's headers are looked through first: links, devices and members
beyond any picture's size make broken rows.
"""

from __future__ import annotations

import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ...bounded import UnreadableError, open_regular
from ...errors import InputError
from ...words import one_line, quoted, quoted_path
from .extras import library
from .rows import MOST_BYTES, Record, RowError

WHAT = "WebDataset archives"


class Cut(NamedTuple):
    """Where an archive ends early."""

    offset: int
    reason: str


@dataclass
class Group:
    """Members of one key, which follow each other."""

    key: str
    offset: int  # of the first one's header
    suffixes: list[str] = field(default_factory=list)
    problem: str = ""


@dataclass(frozen=True)
class TarShard:
    """An archive; its records have the bytes of each member under its suffix, as "1.jpg"."""

    path: Path
    members: re.Pattern[str]  # suffixes that are read
    name: str
    kinds: frozenset[bool] = field(default=frozenset({False}))
    size: int | None = None

    def records(self, start: int) -> Iterator[Record]:
        iterators = library("webdataset.tariterators", WHAT)
        try:
            with open_regular(self.path) as file:
                groups, end = _groups(_Bounded(file), self.members)
                good = {group.key for group in groups if not group.problem}

                def wanted(name: str) -> bool:
                    key, suffix = iterators.base_plus_ext(name)
                    return key in good and bool(self.members.fullmatch(suffix.lower()))

                if start < len(groups):
                    file.seek(groups[start].offset)  # an archive may be read from any header on
                whole = file if end is None else _Until(file, end.offset)
                files = iterators.tar_file_iterator(whole, skip_meta=None, select_files=wanted)
                samples = iterators.group_by_keys({**found, "__url__": ""} for found in files)
                for group in groups[start:]:
                    place = f"{quoted(group.key)} in {quoted(self.path.name)}"
                    yield Record(place, problem=group.problem) if group.problem else Record(place, _fields(samples))
        except UnreadableError as error:
            raise RowError(f"it cannot be read: {error.reason}") from error
        except (OSError, ValueError, tarfile.TarError, EOFError) as error:
            raise RowError(f"it is no tar archive, or damaged ({one_line(error, 150)})") from error
        if end is not None:
            raise RowError(f"it is cut off in or behind its sample {len(groups)} ({end.reason})")


def tar_suffixes(path: Path) -> set[str]:
    """The suffixes of an archive's first sample. Raises InputError where it cannot be read."""
    try:
        with open_regular(path) as file:
            groups, _ = _groups(_Bounded(file), re.compile(".+"), most=1)
    except UnreadableError as error:
        raise InputError(f"The table {quoted_path(path)} cannot be read: {error.reason}.") from error
    except (OSError, ValueError, tarfile.TarError, EOFError) as error:
        raise InputError(f"{quoted_path(path)} is no tar archive, or damaged ({one_line(error, 150)}).") from error
    return set(groups[0].suffixes) if groups else set()


class _Bounded:
    """A file of which nobody reads more at once than the largest member may have: names can be given any length."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self._file = file.seek, file.tell, file

    def read(self, count: int) -> bytes:
        if not 0 <= count <= MOST_BYTES:
            raise ValueError(f"a header of {count} bytes")
        return self._file.read(count)


class _Until:
    """A file that ends at a byte: before the sample that it is cut off in."""

    def __init__(self, file: BinaryIO, end: int) -> None:
        self._file, self._end = file, end

    def read(self, count: int) -> bytes:
        return self._file.read(max(0, min(count, self._end - self._file.tell())))


def _groups(file: Any, members: re.Pattern[str], most: int | None = None) -> tuple[list[Group], Cut | None]:
    """What an archive holds, by its headers, and where it is cut off, if it is."""
    split = library("webdataset.tariterators", WHAT).base_plus_ext
    groups: list[Group] = []
    end: Cut | None = None
    with tarfile.open(fileobj=file, mode="r:") as archive:
        while True:
            try:
                info = archive.next()
            except (OSError, ValueError, tarfile.TarError) as error:
                end = Cut(groups[-1].offset if groups else 0, one_line(error, 100))
                if groups:
                    groups[-1].problem = "it is cut off"
                break
            if info is None:
                file.seek(archive.offset)
                if len(file.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:  # archives end in blocks of zeros
                    end = Cut(archive.offset, "it has no end mark")
                break
            archive.members.clear()
            key, suffix = split(info.name)
            if key is None or info.isdir() or not members.fullmatch(suffix.lower()):
                continue
            if not groups or groups[-1].key != key:
                if most is not None and len(groups) == most:
                    break
                groups.append(Group(key, info.offset))
            group = groups[-1]
            if not info.isreg():
                group.problem = f"it has {quoted(suffix)} as a link or device, which are not read"
            elif info.size > MOST_BYTES:
                group.problem = f"it has {quoted(suffix)} with {info.size >> 20} MB, more than any picture"
            elif suffix.lower() in group.suffixes:
                group.problem = f"it has {quoted(suffix)} twice"
            group.suffixes.append(suffix.lower())
    often = Counter(group.key for group in groups)
    for group in groups:
        if often[group.key] > 1:
            group.problem = group.problem or "it is there twice"
    return groups, end


def _fields(samples: Iterator[dict[str, Any]]) -> dict[str, Any]:
    sample = next(samples)
    return {name: value for name, value in sample.items() if not name.startswith("__")}
