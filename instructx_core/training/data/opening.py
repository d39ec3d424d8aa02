"""Find the listings at `data.table`, a file or a folder, and recognise their layout by content."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...bounded import is_dir, read_text
from ...errors import InputError
from ...video import VIDEO_SUFFIXES
from ...words import one_line, quoted, quoted_path
from ..config import DataConfig
from .extras import LibraryMissingError
from .layouts import LAYOUTS, Layout, mapped
from .listing import BLOCK, Listing, ListingShard, find_listing, open_listing
from .parquet import parquet_columns, parquet_shards, parquet_texts
from .places import find_places
from .rows import LeftOut, Record, RowError, Shard, kinds_of
from .table import Table, TablePart
from .tars import NO_VIDEO, TarShard, tar_kinds, tar_suffixes

logger = logging.getLogger(__name__)

SUFFIXES = {".csv", ".jsonl", ".json", ".parquet", ".tar"}  # of listings in a folder
DEPTH = 4  # levels of folders that are searched
MOST_FILES = 1_000_000  # in one folder
HELD_OUT = re.compile(r"(test|dev|val|valid|validation)([-_.]|$)", re.IGNORECASE)  # listings not trained on
ROOTS = "data.txt"
ROOT_LINE = re.compile(r"([^,]+),([^,]+\.json),(true|false)", re.IGNORECASE)
TRIED = 20  # records tried until one is intact


@dataclass(frozen=True)
class FoundListing:
    """A listing and its layout; `root` is the folder of its files if a data.txt names it."""

    path: Path
    layout: Layout
    root: Path | None = None


def open_table(data: DataConfig) -> Table:
    """Open the table at `data.table`, without opening any picture.

    Raises:
        InputError: it cannot be read, has no known layout or no rows, or a library is missing.
    """
    path = Path(data.table or "")
    layouts = (mapped(data.columns),) if data.columns else LAYOUTS
    root = Path(data.root) if data.root is not None else None
    if root is not None and not is_dir(root):
        raise InputError(f"data.root is {quoted_path(root)}, which is not a folder; give that of the table's files.")
    found = list(_in_folder(path, layouts)) if is_dir(path) else _of_file(path, layouts)
    parts: list[TablePart] = []
    total: int | None = 0
    for each in found:
        shards, rows = _shards(each.path, each.layout, set(data.filters))
        where = find_places(path, each.path, root or each.root, each.layout.folders)
        parts += [TablePart(shard, each.layout, where) for shard in shards]
        total = None if rows is None or total is None else total + rows
    if not parts:
        raise InputError(f"{quoted_path(path)} has no rows; give a CSV with columns source, target, instruction.")
    table = Table(path, parts, total, data.filters)
    logger.info("%s: %s, %s rows", path, ", ".join(table.layouts), "?" if total is None else total)
    return table


def _of_file(path: Path, layouts: tuple[Layout, ...]) -> list[FoundListing]:
    kind, names = _first_names(path)
    if kind == "text" and (rooted := _rooted(path, names, layouts)):
        return rooted
    if layout := _layout(layouts, names):
        return [FoundListing(path, layout)]
    if layouts is not LAYOUTS:
        raise InputError(
            f"{quoted_path(path)} needs the {layouts[0].name}, each once, as data.columns says; it has {_named(names)}."
        )
    if kind == "text":
        raise InputError(
            f"{quoted_path(path)} needs the columns source, target, instruction, each once (optional: reference, "
            "caption, mask), or those of a public data set, or others that data.columns maps to these; its header is "
            f"{quoted(','.join(names))}."
        )
    raise InputError(
        f"{quoted_path(path)} has no known layout (docs/data.md); say in data.columns what its names mean: "
        f"{_named(names)}."
    )


def _in_folder(folder: Path, layouts: tuple[Layout, ...]) -> Iterator[FoundListing]:
    """The listings of a folder nearest to its top, without test and validation sets unless these are all."""
    level, met = [folder], 0
    for _ in range(DEPTH):
        files, below = [], []
        for each in level:
            inside, folders = _entries(each)
            files, below = [*files, *inside], [*below, *folders]
        met += len(files)
        found = [each for file in files for each in _recognised(file, layouts)]
        if rooted := [each for each in found if each.root is not None]:
            found = rooted
        if found:
            training = [each for each in found if not HELD_OUT.match(each.path.name)]
            yield from training or found
            return
        level = below
    raise InputError(
        f"{quoted_path(folder)} holds no listing with a known layout (docs/data.md) among {met} CSV, JSON, Parquet and "
        "tar files; give one of them, and say in data.columns what its names mean."
    )


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """The listings and subfolders of a folder, sorted, without hidden ones and links to folders."""
    files, folders = [], []
    try:
        with os.scandir(folder) as entries:
            for number, entry in enumerate(entries):
                if number == MOST_FILES:
                    raise InputError(
                        f"{quoted_path(folder)} has more than {MOST_FILES} files; give the listing itself."
                    )
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(folder / entry.name)
                elif entry.name == ROOTS or Path(entry.name).suffix.lower() in SUFFIXES:
                    files.append(folder / entry.name)
    except OSError as error:
        raise InputError(f"{quoted_path(folder)} cannot be read: {error.strerror}.") from error
    return sorted(files), sorted(folders)


def _recognised(path: Path, layouts: tuple[Layout, ...]) -> list[FoundListing]:
    """The listings of a file in a folder; none if it is something else, such as a description of the data set."""
    try:
        return _of_file(path, layouts)
    except LibraryMissingError:  # it may well be the listing
        raise
    except InputError as error:
        if path.suffix.lower() in (".parquet", ".tar"):
            logger.warning("%s It is left out.", one_line(error, 300))
        return []


def _first_names(path: Path) -> tuple[str, list[str]]:
    """A file's kind, and the field names of its first record. Raises InputError if it cannot be read."""
    with open_listing(path) as file:
        head = file.read(512)
    if head[:4] == b"PAR1":
        return "parquet", list(parquet_columns(path))
    if head[257:262] == b"ustar":
        return "tar", sorted(tar_suffixes(path))
    listing = find_listing(path)
    if listing.names:
        return "text", list(listing.names)
    for place, (record, _) in enumerate(listing.read(listing.start)):
        if record.fields or place == TRIED:
            return "json", list(record.fields)
    return ("json" if head.lstrip()[:1] in (b"[", b"{") else "text"), []


def _layout(layouts: tuple[Layout, ...], names: list[str]) -> Layout | None:
    if len(set(names)) < len(names):
        return None
    return next((layout for layout in layouts if layout.fits(set(names))), None)


def _rooted(path: Path, names: list[str], layouts: tuple[Layout, ...]) -> list[FoundListing]:
    """The listings named in a data.txt, each line of which also names the folder of the pictures."""
    if not ROOT_LINE.fullmatch(",".join(names).strip()):
        return []
    found: list[FoundListing] = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        if not (parts := ROOT_LINE.fullmatch(line.strip())):
            raise InputError(f'Line {number} of {quoted_path(path)} is not "folder,listing.json,false".')
        root, listing = path.parent / parts[1].strip(), path.parent / parts[2].strip()
        top = os.path.realpath(path.parent)
        for inside in (root, listing):
            if os.path.commonpath([top, os.path.realpath(inside)]) != top:
                raise InputError(
                    f"Line {number} of {quoted_path(path)} names a path outside of its folder; name only paths inside."
                )
        found += [FoundListing(each.path, each.layout, root) for each in _of_file(listing, layouts)]
    return found


def _shards(path: Path, layout: Layout, asked: set[str]) -> tuple[list[Shard], int | None]:
    """A file's shards, and its number of rows, if known.

    Args:
        asked: additional names that filters use.
    """
    kind, names = _first_names(path)
    if kind == "parquet":
        columns = [name for name in names if name in layout.names | asked]
        needed = {name for name in columns if name in layout.names}
        kinds = frozenset({False, True} if len(needed & parquet_texts(path)) > 1 else {False})
        return parquet_shards(path, columns, kinds)
    if kind == "tar":
        if layout.members is None:
            members = re.compile("|".join(re.escape(name) for name in sorted(layout.names | asked)))
        else:
            members = layout.members
        candidates = (*names, "source.mp4")
        may_be_videos = any(name.endswith(VIDEO_SUFFIXES) and members.fullmatch(name) for name in candidates)
        kinds = tar_kinds(path, members) if may_be_videos else NO_VIDEO
        return [TarShard(path, members, quoted(path.name), kinds)], None
    return _blocks(find_listing(path), layout)


def _blocks(listing: Listing, layout: Layout) -> tuple[list[Shard], int]:
    """Split a text listing into blocks; it is read once, and only the start of each block is kept."""
    shards: list[Shard] = []
    size, total, start, told = 0, 0, listing.start, True
    kinds: frozenset[bool] = frozenset()

    def close() -> None:
        if size:
            name = f"rows {total - size + 1} to {total} of {quoted(listing.path.name)}"
            shards.append(ListingShard(listing, start, size, name, kinds or frozenset({False}), told))

    for record, after in listing.read(listing.start):
        own = _kinds(record, layout)
        size, total, kinds, told = size + 1, total + 1, kinds | own, told and len(own) < 2
        if size == BLOCK:
            close()
            size, start, kinds, told = 0, after, frozenset(), True
    close()
    return shards, total


def _kinds(record: Record, layout: Layout) -> frozenset[bool]:
    try:
        return frozenset() if record.problem else kinds_of(layout.read(record.fields).source)
    except (RowError, LeftOut):
        return frozenset()


def _named(names: list[str]) -> str:
    return quoted(", ".join(names), 200) if names else "none"
