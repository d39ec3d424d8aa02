"""Files that go on where a killed run stopped: whatever lies there, the result is what was to be written."""

from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instructx_core.convert.resumable import SUMS, write_file, write_folder
from instructx_core.errors import CheckpointError, InputError
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


def left_by_a_kill(folder: Path, name: str, data: bytes) -> None:
    (folder / f".{name}.partial").write_bytes(data)


@given(wanted=st.binary(max_size=40), there=st.binary(max_size=50) | st.none(), shared=st.integers(0, 40))
def test_whatever_lies_there(wanted: bytes, there: bytes | None, shared: int):
    """Any bytes behind any part of the right ones: shorter, longer, torn, damaged or of another file."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        if there is not None:
            left_by_a_kill(folder, "out", wanted[:shared] + there)
        seen: list[int] = []
        written = write_file(folder / "out", content(wanted), seen.append)
        assert (folder / "out").read_bytes() == wanted
        assert sum(seen) == len(wanted)
        assert check_sums(folder, "out.sha256") == {"out"}
        equal = min(shared, len(wanted)) if there is not None else 0
        assert equal - equal % PIECE <= written.kept <= len(wanted)
        assert sorted(path.name for path in folder.iterdir()) == ["out", "out.sha256"]


@pytest.mark.parametrize(
    ("there", "kept", "warned"),
    [(b"0123456789ab", 10, False), (b"0123456X89abc", 5, True), (b"0123456789abcdeXYZ", 15, False)],
    ids=["torn", "another source", "a longer one before"],
)
def test_a_changed_source_is_told_from_a_torn_file(there: bytes, kept: int, warned: bool, tmp_path: Path, caplog):
    left_by_a_kill(tmp_path, "out", there)
    with caplog.at_level(logging.WARNING):
        assert write_file(tmp_path / "out", content(b"0123456789abcde"), nothing).kept == kept
    assert (f"written anew from byte {kept} on" in caplog.text) == warned


def test_a_folder_goes_on_and_holds_nothing_else(tmp_path: Path):
    target = tmp_path / "deep" / "model"
    plan = {"a/one": content(b"0123456789"), "two": content(b"abcdefghij"), "config.json": text("{}\n")}

    class Killed(BaseException):
        pass

    def stop(_count: int, done: list[int] = []) -> None:  # noqa: B006 - the count lives as long as the function
        done.append(1)
        if len(done) == 3:
            raise Killed

    with pytest.raises(Killed):
        write_folder(target, {"of another source": content(b"x" * 7)} | plan, stop)
    assert not target.exists()
    written = write_folder(target, plan, nothing)
    assert written.kept == 0 + 5  # of a/one; what stopped it came before the rest
    assert {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()} == {*plan, SUMS}
    assert check_sums(target, SUMS) == set(plan) == set(written.sums)
    assert list(target.parent.iterdir()) == [target]
    assert write_folder(target, {"two": content(b"new")}, nothing).kept == 0
    assert {path.name for path in target.iterdir()} == {"two", SUMS}


def test_a_bad_source_leaves_nothing_a_full_disk_and_an_interruption_what_was_written(tmp_path: Path):
    for error in (CheckpointError("shorter"), RuntimeError("shapes cannot be multiplied"), MemoryError()):
        with pytest.raises(type(error)):
            write_file(tmp_path / "out", content(b"0123456789", error), nothing)
        with pytest.raises(type(error)):
            write_folder(tmp_path / "model", {"a/b": content(b"0123456789", error)}, nothing)
    for size in (9, 11):
        with pytest.raises(CheckpointError, match=rf"got 10 of {size} bytes"):
            write_file(tmp_path / "out", Content(size, content(b"0123456789").chunks), nothing)
    assert list(tmp_path.iterdir()) == []
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(InputError, match=r"No space left on device.*run the same again to go on"):
        write_file(tmp_path / "out", content(b"0123456789", full), nothing)
    assert write_file(tmp_path / "out", content(b"0123456789"), nothing).kept == 10
    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "again", content(b"0123456789", KeyboardInterrupt()), nothing)
    assert write_file(tmp_path / "again", content(b"0123456789"), nothing).kept == 10


def test_two_runs_and_wrong_targets_are_refused(tmp_path: Path):
    with only_run(tmp_path / "out"), pytest.raises(InputError, match="another run is writing there"):
        write_file(tmp_path / "out", content(b"0"), nothing)
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="it is a folder"):
        write_file(tmp_path / "folder", content(b"0"), nothing)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="it is a file"):
        write_folder(tmp_path / "file", {}, nothing)
    write_folder(tmp_path / "folder", {"a": content(b"1")}, nothing)
    (tmp_path / "folder" / "letters").write_text("dear")
    with pytest.raises(InputError, match="holds letters, which was not written by converting"):
        write_folder(tmp_path / "folder", {"a": content(b"2")}, nothing)
    assert (tmp_path / "folder" / "letters").read_text() == "dear"


def test_a_disk_that_is_too_small_is_told_of_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=3_000_000))
    large = Content(5_000_000, lambda: pytest.fail("was written"))
    with pytest.raises(InputError, match=r"5\.0 MB more are to be written, where 3\.0 MB are free"):
        write_file(tmp_path / "out", large, nothing)
    left_by_a_kill(tmp_path, "out", bytes(1_500_000))
    with pytest.raises(InputError, match=r"3\.5 MB more"):
        write_folder(tmp_path / "out", {"a": large}, nothing)
    assert not (tmp_path / "out").exists()


def test_a_link_is_written_through(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_folder(tmp_path / "link", {"a": content(b"1")}, nothing)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "a").read_bytes() == b"1"


@pytest.mark.parametrize("place", [".out.partial", ".out.partial/a", ".out.partial/deep"])
def test_links_under_the_unfinished_name_are_not_followed(place: str, tmp_path: Path):
    """Somebody who prepared the folder must not have other files written to, or removed as left over."""
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in ("a", "b"):
        (mine / name).write_bytes(b"mine")
    link = tmp_path / "prepared" / place
    link.parent.mkdir(parents=True)
    link.symlink_to(mine / "a" if place.endswith("/a") else mine)
    write_folder(tmp_path / "prepared" / "out", {"a": content(b"new"), "deep/b": content(b"new")}, nothing)
    assert {path.name: path.read_bytes() for path in mine.iterdir()} == {"a": b"mine", "b": b"mine"}
    assert (tmp_path / "prepared" / "out" / "deep" / "b").read_bytes() == b"new"


def test_a_link_in_the_place_of_an_unfinished_file_is_not_followed(tmp_path: Path):
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / ".out.partial").symlink_to(tmp_path / "mine")
    write_file(tmp_path / "out", content(b"new"), nothing)
    assert (tmp_path / "mine").read_bytes() == b"mine"
    assert not (tmp_path / "out").is_symlink() and (tmp_path / "out").read_bytes() == b"new"
