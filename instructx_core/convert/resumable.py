"""Large files written so that a run which is killed loses nothing: the next one compares, and goes on where they part.

- A file is written under a hidden name that stays from run to run, `.NAME.partial`. What already lies there is
  compared with what is to be written, byte by byte: equal bytes stay, from the first difference on it is written anew.
  So nothing has to be trusted of a run that was killed or of a disk that lost power, and a source that has changed
  is noticed without a record of it.
- The SHA-256 of every file, of the bytes as they came from the source, is written beside it in the form that
  `sha256sum -c` reads.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..atomic import flush, partial_file, recover_folder, replace_folder
from ..bounded import read_text, why
from ..errors import CheckpointError, InputError
from ..hidden import hidden
from ..run_lock import only_run
from ..weights.hub import readable_size
from ..weights.streaming import Content
from ..words import quoted_path

SUMS = "SHA256SUMS"

Progress = Callable[[int], None]  # bytes that are done since the last call

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Written:
    """What a finished writing did."""

    kept: int  # bytes that an earlier, interrupted run had written already
    sums: Mapping[str, str]  # file, relative to a folder that was written -> its SHA-256 in hexadecimal


def write_file(path: Path, content: Content, progress: Progress) -> Written:
    """Write one file, and its checksum beside it as `NAME.sha256`; it appears under its name when it is complete.

    Raises:
        CheckpointError: from the content; then, as after any other error in it, nothing stays behind.
        InputError: another run writes there, or the file cannot be written; what was written stays for the next run.
    """
    _check_name(path)
    if path.is_dir():
        raise InputError(f"{path}: it is a folder; give the name of a file to write.")
    path = Path(os.path.realpath(path))
    with _one_run(path):
        _remove_links(_partial(path))
        _check_space(path, content.size)
        digest, kept = _write(_partial(path), content, progress)
        flush(_partial(path))
        os.replace(_partial(path), path)
        with partial_file(path.with_name(f"{path.name}.sha256")) as sums:
            sums.write_text(_line(path.name, digest), encoding="utf-8")
    return Written(kept, {path.name: digest})


def write_folder(path: Path, contents: Mapping[str, Content], progress: Progress) -> Written:
    """Write a folder of files, their checksums with them as SHA256SUMS; it takes the place of an older one when whole.

    Args:
        path: of the folder.
        contents: of its files, by their names relative to it.
        progress: told of the bytes that are done.

    Raises:
        CheckpointError, InputError: as `write_file`; also a folder that holds anything but what was written like this.
    """
    _check_name(path)
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: it is a file; give another name for the folder to write.")
    if foreign := _files(path) - _listed(path / SUMS) - {SUMS}:
        raise InputError(
            f"{path}: the folder holds {min(foreign)}, which was not written by converting and would be lost; give a "
            "new name, or empty it."
        )
    path = Path(os.path.realpath(path))
    partial, sums, kept = _partial(path), {}, 0
    with _one_run(path):
        recover_folder(path)
        _remove_links(partial)
        _check_space(path, sum(content.size for content in contents.values()))
        for name, content in contents.items():
            sums[name], equal = _write(partial / name, content, progress)
            kept += equal
        (partial / SUMS).write_text("".join(_line(name, sums[name]) for name in sorted(sums)), encoding="utf-8")
        _remove_others(partial, {SUMS, *sums})
        replace_folder(partial, path)
    return Written(kept, sums)


def _check_name(path: Path) -> None:
    """Raise InputError where the system takes no file of this name, or of the longer one of what is unfinished."""
    for name in (path, _partial(path)):
        try:
            name.lstat()
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise InputError(f"{quoted_path(path)} cannot be written: {why(error)}; give another name.") from error


def _discard(path: Path) -> None:
    """Delete what an interrupted writing to `path` left to go on from."""
    partial = _partial(path)
    if partial.is_dir():
        shutil.rmtree(partial, ignore_errors=True)
    else:
        partial.unlink(missing_ok=True)


def _write(path: Path, content: Content, progress: Progress) -> tuple[str, int]:
    """Make a file hold `content`; returns its SHA-256 and how many bytes from its beginning were there already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest, kept = hashlib.sha256(), 0
    with path.open("r+b" if path.exists() else "w+b") as file:
        there = os.fstat(file.fileno()).st_size
        comparing = there > 0
        for chunk in content.chunks():
            digest.update(chunk)
            if comparing:
                found = file.read(len(chunk))
                comparing = found == chunk
                if comparing:
                    kept += len(chunk)
                else:
                    if not chunk.startswith(found):  # else the earlier run was killed within this chunk
                        _logger.warning(
                            "%s: the source has changed since an earlier run was interrupted, or what that run wrote "
                            "is damaged; written anew from byte %d on.",
                            *(path, kept),
                        )
                    file.seek(kept)
            if not comparing:
                file.write(chunk)
            progress(len(chunk))
        file.truncate()
        if file.tell() != content.size:
            raise CheckpointError(
                f"{str(path)!r} got {file.tell()} of {content.size} bytes: its source does not hold what its headers "
                "tell; get it again."
            )
    return digest.hexdigest(), kept


@contextmanager
def _one_run(path: Path) -> Iterator[None]:
    """Write to `path` alone; what the system refuses is told in a sentence.

    What was written stays for the next run after an interruption, a full disk and another refusal of the system; after
    any other error it goes: the same run would come to the same end.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with only_run(path):
            yield
    except InputError:  # nothing was written yet, or another run is writing
        raise
    except OSError as error:
        raise InputError(
            f"{path}: it could not be written ({error.strerror}); free space, or give another folder. What was written "
            "stays: run the same again to go on."
        ) from error
    except Exception:
        _discard(path)
        raise


def _check_space(path: Path, size: int) -> None:
    """Raise InputError where the disk has not the room for `size` bytes, what lies there to go on from counted in."""
    partial = _partial(path)
    there = sum(file.stat().st_size for file in (partial, *partial.rglob("*")) if file.is_file())
    free = shutil.disk_usage(path.parent).free
    if free + there < size:
        raise InputError(
            f"{path}: {readable_size(size - there)} more are to be written, where {readable_size(free)} are free; make "
            "room, or give another folder."
        )


def _remove_others(folder: Path, wanted: Set[str]) -> None:
    """Delete what an earlier run with another source wrote into a folder and this one did not."""
    for name in _files(folder) - wanted:
        (folder / name).unlink()


def _remove_links(partial: Path) -> None:
    """Delete links under an unfinished name: no run makes any, and writing would change what they lead to."""
    if partial.is_symlink():
        partial.unlink()
    for folder, folders, files in os.walk(partial):
        for path in (Path(folder, name) for name in (*folders, *files)):
            if path.is_symlink():
                path.unlink()


def _files(folder: Path) -> set[str]:
    """All files in a folder, by their names relative to it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _listed(sums: Path) -> set[str]:
    """The files that a list of checksums names; none where there is no list."""
    lines = read_text(sums).splitlines() if sums.is_file() else []
    return {name for _, _, name in (line.partition("  ") for line in lines)}


def _partial(path: Path) -> Path:
    return hidden(path, "partial")


def _line(name: str, digest: str) -> str:
    return f"{digest}  {name}\n"
