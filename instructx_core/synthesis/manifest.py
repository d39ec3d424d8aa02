"""The manifest of an output: one line per pack of clips, validated when read."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from ..atomic import partial_file
from ..bounded import UnreadableError, is_file, open_regular, parse_json, read_text
from ..errors import InputError
from ..validation import FieldError, Range, converted
from ..words import quoted_path

MANIFEST = "manifest.jsonl"
MEDIA = "media"  # folder of the files that shards refer to
LARGEST = 1 << 30  # bytes
SHARD = re.compile(r"(kept|dropped)/(\d{5,9})\.(parquet|tar|jsonl)")
CLIP = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,250}")
Count = Annotated[int, Range(0)]


@dataclass(frozen=True)
class ShardFile:
    sha256: str
    rows: Count
    bytes: Count | None = None
    media: str | None = None


@dataclass(frozen=True)
class Entry:
    number: Count
    clips: tuple[str, ...]
    files: dict[str, ShardFile]
    kept: Count
    dropped: dict[str, Count]
    seconds: dict[str, float]

    def check(self, number: int) -> None:
        """Raise FieldError if the entry has a number, clip or shard name that no run writes."""
        if self.number != number:
            raise FieldError(f"its number is {self.number}, not {number}")
        if not all(CLIP.fullmatch(clip) for clip in self.clips):
            raise FieldError("one of its clips has an invalid name")
        for name in self.files:
            if not (found := SHARD.fullmatch(name)) or int(found[2]) != number:
                raise FieldError("it lists a shard that is not its own")


def read_manifest(folder: Path) -> list[dict[str, Any]]:
    """The complete lines of a run's manifest; a last line torn by a kill is ignored.

    Raises:
        InputError: a line was not written by a run.
    """
    path = folder / MANIFEST
    lines = read_text(path, LARGEST).split("\n")[:-1] if is_file(path) else []
    entries: list[dict[str, Any]] = []
    seen: set[str] = set()
    for number, line in enumerate(lines):
        try:
            entry = parse_json(line, "it", LARGEST)
            converted(Entry, entry).check(number)
            if not seen.isdisjoint(entry["clips"]):
                raise FieldError("it repeats a clip of an earlier line")
        except (FieldError, UnreadableError) as error:
            why = error.reason if isinstance(error, UnreadableError) else error
            raise InputError(
                f"Line {number + 1} of {quoted_path(path)} cannot be used ({why}); restore the file from a copy, or "
                f"delete this line, those after it and their shards (from {number:05d} on): their clips are then made "
                "again."
            ) from error
        seen.update(entry["clips"])
        entries.append(entry)
    return entries


def check_shard(folder: Path, name: str, about: dict[str, Any], whole: bool = False) -> None:
    """Raise InputError if a shard is missing or damaged.

    Args:
        about: its entry in the manifest.
        whole: compare checksums too, including those of its media, not only the size.
    """
    path = folder / name
    if not is_file(path):
        problem = "is missing"
    elif about.get("bytes") not in (None, path.stat().st_size):
        problem = f"has {path.stat().st_size} bytes, not {about['bytes']}"
    elif whole and checksum(path) != about["sha256"]:
        problem = "does not match its checksum in the manifest"
    elif whole and about.get("media") and (damaged := _damaged_media(media_sums(path), about["media"])):
        problem = f"lists {damaged.name}, which is missing or does not match its checksum"
    else:
        return
    line = int(Path(name).stem) + 1
    raise InputError(
        f"{quoted_path(path)} {problem}; restore it from a copy, or delete line {line} and those after it in "
        f"{MANIFEST}, and their shards (from {line - 1:05d} on): their clips are then made again."
    )


def media_sums(shard: Path) -> Path:
    """The path of the list of a shard's media files and their checksums, in the format of `sha256sum`."""
    return shard.parent / MEDIA / f"{shard.stem}.sha256"


def write_media_sums(shard: Path, names: Sequence[str]) -> str:
    """Write that list; return the checksum of the list itself."""
    path = media_sums(shard)
    lines = [f"{checksum(shard.parent / name)}  {name}\n" for name in sorted(set(names))]
    with partial_file(path) as partial:
        partial.write_text("".join(lines), encoding="ascii")
    return checksum(path)


def _damaged_media(sums: Path, expected: str) -> Path | None:
    """The first file of the list that is missing or changed, or the list itself."""
    if not is_file(sums) or checksum(sums) != expected:
        return sums
    for line in read_text(sums, LARGEST).splitlines():
        wanted, _, name = line.partition("  ")
        path = sums.parent.parent / name
        if not is_file(path) or checksum(path) != wanted:
            return path
    return None


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
