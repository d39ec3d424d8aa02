"""Large files that are written whole or not at all, with their checksums."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from instructx_core.convert.writing import SUMS, write_file, write_folder
from instructx_core.errors import CheckpointError, InputError
from instructx_core.hidden import unique
from instructx_core.run_lock import only_run
from instructx_core.weights.streaming import Content, text
from support.check_sums import check_sums

PIECE = 5


def content(data: bytes, error: BaseException | None = None) -> Content:
    """`data` in small pieces; then `error`."""

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(data), PIECE):
            yield data[start : start + PIECE]
        if error is not None:
            raise error

    return Content(len(data), chunks)


def nothing(_count: int) -> None:
    pass


def test_a_file_and_its_checksum(tmp_path: Path):
    seen: list[int] = []
    sums = write_file(tmp_path / "deep" / "out", content(b"0123456789ab"), seen.append)
    assert (tmp_path / "deep" / "out").read_bytes() == b"0123456789ab"
    assert seen == [5, 5, 2]
    assert check_sums(tmp_path / "deep", "out.sha256") == set(sums) == {"out"}
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"out", "out.sha256"}


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="names are Unicode there")
def test_a_name_that_is_no_utf8(tmp_path: Path):
    name = os.fsdecode(b"out\xff")
    assert write_file(tmp_path / name, content(b"0123456789ab"), nothing).keys() == {name}
    assert os.fsencode(name) in (tmp_path / f"{name}.sha256").read_bytes()


def test_a_folder_holds_what_is_written_and_nothing_else(tmp_path: Path):
    target = tmp_path / "deep" / "model"
    plan = {"a/one": content(b"0123456789"), "two": content(b"abcdefghij"), "config.json": text("{}\n")}
    sums = write_folder(target, plan, nothing)
    assert {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()} == {*plan, SUMS}
    assert check_sums(target, SUMS) == set(plan) == set(sums)
    write_folder(target, {"two": content(b"new")}, nothing)
    assert {path.name for path in target.iterdir()} == {"two", SUMS}
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a fork of this process")
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_run_left_is_cleared_away(kind: str, tmp_path: Path):
    def write(progress) -> None:
        if kind == "file":
            write_file(tmp_path / "out", content(b"0123456789"), progress)
        else:
            write_folder(tmp_path / "out", {"a/b": content(b"0123456789")}, progress)

    child = os.fork()
    if child == 0:
        write(lambda _count: os.kill(os.getpid(), signal.SIGKILL))
        os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert not (tmp_path / "out").exists() and list(tmp_path.glob(".out.*.partial"))
    write(nothing)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "error",
    [CheckpointError("shorter"), RuntimeError("no product"), MemoryError(), KeyboardInterrupt(),
     OSError(errno.ENOSPC, "No space left on device")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_after_an_error_nothing_stays(error: BaseException, tmp_path: Path):
    kind = InputError if isinstance(error, OSError) else type(error)
    with pytest.raises(kind, match="No space left on device" if kind is InputError else None):
        write_file(tmp_path / "out", content(b"0123456789", error), nothing)
    with pytest.raises(kind):
        write_folder(tmp_path / "model", {"a/b": content(b"0123456789", error)}, nothing)
    with pytest.raises(kind):
        write_file(tmp_path / "made" / "for it" / "out", content(b"0123456789", error), nothing)
    assert list(tmp_path.iterdir()) == []


def test_an_older_folder_stays_until_the_new_one_is_whole(tmp_path: Path):
    write_folder(tmp_path / "out", {"a": content(b"old")}, nothing)
    with pytest.raises(CheckpointError, match="shorter"):
        write_folder(tmp_path / "out", {"a": content(b"new", CheckpointError("shorter"))}, nothing)
    assert (tmp_path / "out" / "a").read_bytes() == b"old"


@pytest.mark.parametrize("size", [9, 11])
def test_a_source_of_another_size_than_its_headers_tell(size: int, tmp_path: Path):
    with pytest.raises(CheckpointError, match=rf"got 10 of {size} bytes"):
        write_file(tmp_path / "out", Content(size, content(b"0123456789").chunks), nothing)
    assert list(tmp_path.iterdir()) == []


def test_two_runs_and_wrong_targets_are_refused(tmp_path: Path):
    with only_run(tmp_path / "out"), pytest.raises(InputError, match="another run is writing there"):
        write_file(tmp_path / "out", content(b"0"), nothing)
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="folder is a folder; give"):
        write_file(tmp_path / "folder", content(b"0"), nothing)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is a file; give"):
        write_folder(tmp_path / "file", {}, nothing)
    write_folder(tmp_path / "folder", {"a": content(b"1")}, nothing)
    (tmp_path / "folder" / "letters").write_text("dear")
    with pytest.raises(InputError, match="holds letters, which was not written by a conversion"):
        write_folder(tmp_path / "folder", {"a": content(b"2")}, nothing)
    assert (tmp_path / "folder" / "letters").read_text() == "dear"


def test_a_disk_that_is_too_small_is_told_of_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=3_000_000))
    large = Content(5_000_000, lambda: pytest.fail("was written"))
    for write in (lambda: write_file(tmp_path / "out", large, nothing),
                  lambda: write_folder(tmp_path / "out", {"a": large}, nothing)):  # fmt: skip
        with pytest.raises(InputError, match=r"out needs 5\.0 MB, but only 3\.0 MB are free"):
            write()
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_written_through(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_folder(tmp_path / "link", {"a": content(b"1")}, nothing)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "a").read_bytes() == b"1"


def test_links_under_an_unfinished_name_are_not_followed(tmp_path: Path):
    """Somebody who prepared the folder must not have other files written to, or removed as left over."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "a").write_bytes(b"mine")
    (tmp_path / "prepared").mkdir()
    for target in (mine, mine / "a"):
        unique(tmp_path / "prepared" / "out", "partial").symlink_to(target)
    write_folder(tmp_path / "prepared" / "out", {"a": content(b"new")}, nothing)
    assert (mine / "a").read_bytes() == b"mine"
    assert [path.name for path in (tmp_path / "prepared").iterdir()] == ["out"]
