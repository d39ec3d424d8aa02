"""The finished clips of a run on disk, safe against a kill at any moment.

OUTPUT/
    settings.json    the run's settings; a run with other settings is refused
    manifest.jsonl   one line per pack of clips: their keys, the shards' checksums, why pairs were dropped
    kept/            shards that training reads
    dropped/         shards of what the filter dropped, with the reason
    pending/CLIP/    finished clips that are not in a shard yet
    working/RUN/     clips that processes of a run on Ray have finished; the driver moves them to pending

A clip's folder appears atomically. A pack enters the manifest only once its shards are on disk, and only then are its
clips removed from `pending`, so no clip is lost or packed twice, whenever a run ends. Packs take clips in the order of
the footage, not in the order in which they finish, so one process and many write the same shards; a clip for which
memory was short is left to a later pack. Only one process moves and packs; leftover processes of a killed run can write
only to that run's folder.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..atomic import atomic_folder, flush, partial_file
from ..bounded import UnreadableError, is_file, read_json, read_text
from ..errors import InputError
from ..validation import FieldError, converted
from ..words import one_line, quoted_path
from .answering import spent
from .candidate import Candidate
from .config import Form
from .manifest import CLIP, MANIFEST, SHARD, check_shard, checksum, read_manifest, write_media_sums
from .media import write_media
from .shards import SUFFIXES, write_shard

ROWS = "rows.json"
KEPT, DROPPED = "kept", "dropped"


@dataclass(frozen=True)
class Made:
    """A finished clip.

    Attributes:
        seconds: stage -> seconds.
        dropped: stage -> pairs that it dropped.
    """

    clip: str
    kept: int
    pairs: int
    seconds: Mapping[str, float]
    dropped: Mapping[str, int] = field(default_factory=dict)


class Store:
    """The output of one run.

    Attributes:
        packed: the entries of the manifest.
    """

    def __init__(self, folder: Path, form: Form, settings: Mapping[str, Any]) -> None:
        """Open or create an output. Raises InputError if it belongs to another run, is damaged or cannot be written."""
        self.folder, self.form = folder, form
        self.pending, self.manifest = folder / "pending", folder / MANIFEST
        self.working = folder / "working" / secrets.token_hex(6)
        try:
            self.pending.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{quoted_path(folder)} cannot be written to ({error.strerror}).") from error
        self.packed = read_manifest(folder)
        self._check(settings)
        self._check_shards()
        self._mend()

    def _check(self, settings: Mapping[str, Any]) -> None:
        path = self.folder / "settings.json"
        plain = json.loads(json.dumps(settings))
        if not self.finished() and not self._left_working():
            with partial_file(path) as partial:
                partial.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
            return
        try:
            if not isinstance(before := read_json(path), dict):
                raise UnreadableError(quoted_path(path), "it is not a mapping")
        except UnreadableError as error:
            raise InputError(
                f"{quoted_path(path)} cannot be read ({error.reason}); restore it from a copy, or give a new output."
            ) from error
        if names := sorted(name for name in {*before, *plain} if before.get(name) != plain.get(name)):
            raise InputError(
                f"{quoted_path(self.folder)} was started with different settings ({', '.join(names)}); "
                "give a new output."
            )

    def _check_shards(self) -> None:
        """Raise InputError if a shard of the manifest is missing, or several packs are not in the manifest.

        A kill can leave one pack without an entry; more mean that entries were lost.
        """
        for entry in self.packed:
            for name, about in entry["files"].items():
                check_shard(self.folder, name, about)
        if beyond := [path for path in self._shards() if int(path.stem) > len(self.packed)]:
            raise InputError(
                f"{quoted_path(beyond[0])} is not in {MANIFEST}; restore that file, give a new output, or delete the "
                f"shards from {len(self.packed):05d} on: their clips are then made again."
            )

    def _shards(self) -> list[Path]:
        found = [path for place in (KEPT, DROPPED) for path in (self.folder / place).glob("*.*")]
        return sorted(path for path in found if SHARD.fullmatch(path.relative_to(self.folder).as_posix()))

    def _mend(self) -> None:
        """Repair what a kill left half done: a torn line, shards without a line, packed clips still pending."""
        for path in self._shards():
            if int(path.stem) >= len(self.packed):
                path.unlink()
        text = "".join(json.dumps(entry) + "\n" for entry in self.packed)
        if is_file(self.manifest) and read_text(self.manifest, 1 << 30) != text:
            with partial_file(self.manifest) as partial:
                partial.write_text(text, encoding="utf-8")
        for clip in self.packed_clips():
            shutil.rmtree(self.pending / clip, ignore_errors=True)
        for left in self.pending.glob(".*"):
            shutil.rmtree(left, ignore_errors=True)
        finished = self.finished()
        for made in self._left_working():
            if made.name not in finished:  # two killed runs may have finished the same clip
                self.take(made)
                finished.add(made.name)
        self.clear_working()

    def _left_working(self) -> list[Path]:
        """The folders of clips that killed runs on Ray finished and did not move."""
        found = self.working.parent.glob("*/*")
        return [made for made in found if CLIP.fullmatch(made.name) and is_file(made / ROWS)]

    def packed_clips(self) -> list[str]:
        return [clip for entry in self.packed for clip in entry["clips"]]

    def waiting(self) -> list[str]:
        return sorted(path.name for path in self.pending.iterdir() if is_file(path / ROWS))

    def finished(self) -> set[str]:
        return {*self.packed_clips(), *self.waiting()}

    def take(self, folder: Path) -> None:
        """Move a finished clip's folder to `pending`."""
        os.replace(folder, self.pending / folder.name)
        flush(self.pending)

    def clear_working(self) -> None:
        """Remove what other processes wrote and `take` did not move."""
        shutil.rmtree(self.working.parent, ignore_errors=True)

    def pack_in_order(self, clips: list[str], finished: Set[str], most: int, last: bool) -> list[str]:
        """Pack `clips` from the front, `most` at a time, as far as they are finished; return the rest.

        Args:
            last: also pack a remainder of fewer than `most`.
        """
        while clips and (len(clips) >= most or last) and finished >= set(clips[:most]):
            self.pack(clips[:most])
            clips = clips[most:]
        return clips

    def pack(self, clips: Sequence[str]) -> None:
        """Move finished clips into the next shards."""
        number = len(self.packed)
        rows: dict[str, list[dict[str, Any]]] = {KEPT: [], DROPPED: []}
        folders: dict[str, list[Path]] = {KEPT: [], DROPPED: []}
        seconds: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        for clip in clips:
            told = _told(self.pending / clip)
            seconds.update(told["seconds"])
            for row in told["rows"]:
                place = DROPPED if row["reason"] else KEPT
                rows[place].append(row)
                folders[place].append(self.pending / clip)
                if row["reason"]:
                    reasons[f"{row['task']}: {row['reason']}"] += 1
        files = {}
        for place, part in rows.items():
            if part:
                name = f"{place}/{number:05d}{SUFFIXES[self.form]}"
                shard = self.folder / name
                media = write_shard(self.form, shard, part, folders[place])
                flush(self.folder / place)
                files[name] = {"sha256": checksum(shard), "rows": len(part), "bytes": shard.stat().st_size}
                if media:
                    files[name]["media"] = write_media_sums(shard, media)
        entry = {
            "number": number,
            "clips": list(clips),
            "files": files,
            "kept": len(rows[KEPT]),
            "dropped": dict(reasons),
            "seconds": dict(seconds),
        }
        with open(self.manifest, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.packed.append(entry)
        for clip in clips:
            shutil.rmtree(self.pending / clip)


def write_clip(place: Path, clip: str, candidates: Iterable[Candidate], seconds: Mapping[str, float]) -> Made:
    """Write all candidates of a clip, including dropped ones, to the folder `place`/CLIP, atomically."""
    took = Counter(seconds)
    with atomic_folder(place / clip) as folder:
        with spent(took, "write"):
            rows = [
                {
                    "key": one.key,
                    "clip": one.clip,
                    "task": one.task,
                    "instructions": list(one.instructions),
                    "caption": one.caption,
                    "reason": one.reason,
                    "stage": one.stage,
                    "scores": dict(one.scores),
                    "about": dict(one.about),
                    **write_media(one, folder),
                }
                for one in candidates
            ]
        told = {"rows": rows, "seconds": dict(took)}
        (folder / ROWS).write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
    return _made(clip, told)


def read_made(folder: Path) -> Made | None:
    """Summarise a finished clip's folder; None if there is none."""
    return _made(folder.name, _told(folder)) if is_file(folder / ROWS) else None


def has_kept(folder: Path) -> bool:
    """Whether a run has kept a pair so far; other processes may be writing to its folder."""
    for place in ("working/*", "pending"):  # then the manifest: in the order in which clips move
        for rows in folder.glob(f"{place}/*/{ROWS}"):
            with suppress(InputError):  # it has just been moved
                if (made := read_made(rows.parent)) and made.kept:
                    return True
    return any(entry["kept"] for entry in read_manifest(folder))


def _made(clip: str, told: Mapping[str, Any]) -> Made:
    rows = told["rows"]
    dropped = Counter(row.get("stage", "") for row in rows if row["reason"])
    return Made(clip, sum(not row["reason"] for row in rows), len(rows), told["seconds"], dropped)


def _told(folder: Path) -> dict[str, Any]:
    """The rows and seconds of a finished clip. Raises InputError if its folder is damaged."""
    try:
        told = read_json(folder / ROWS)
        rows = converted(_Rows, told).rows
        if not all(CLIP.fullmatch(row.key) and all(CLIP.fullmatch(name) for name in row.media) for row in rows):
            raise FieldError("one of its files has an invalid name")
    except (FieldError, UnreadableError) as error:
        raise InputError(
            f"{quoted_path(folder)} is damaged ({one_line(error, 200)}); delete it: its clip is then made again."
        ) from error
    return told


@dataclass(frozen=True)
class _StoredPair:
    key: str
    clip: str
    task: str
    instructions: tuple[str, ...]
    caption: str
    reason: str
    scores: dict[str, float]
    about: dict[str, Any]
    stage: str = ""
    source: str | None = None
    target: str | None = None
    reference: str | None = None
    mask: str | None = None

    @property
    def media(self) -> list[str]:
        return [name for name in (self.source, self.target, self.reference, self.mask) if name is not None]


@dataclass(frozen=True)
class _Rows:
    rows: tuple[_StoredPair, ...]
    seconds: dict[str, float]
