"""Hidden names: one scheme, short enough for every file system, told apart by what they stand for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from instructx_core.atomic import partial_file
from instructx_core.errors import InputError
from instructx_core.hidden import UNFINISHED, hidden, leftovers, unique
from instructx_core.run_lock import only_run


def test_the_scheme(tmp_path: Path):
    path = tmp_path / "out.mp4"
    assert hidden(path, "windows") == tmp_path / ".out.mp4.windows"
    assert hidden(path, "partial", "0123456789ab") == tmp_path / ".out.mp4.0123456789ab.partial"
    assert unique(path, "partial") != unique(path, "partial")
    assert UNFINISHED.fullmatch(unique(path, "partial").name)
    assert not UNFINISHED.fullmatch(hidden(path, "partial").name)  # what a later run goes on with


def test_leftovers_are_of_one_name_and_kind(tmp_path: Path):
    path, other = tmp_path / "a.b", tmp_path / "a"
    made = [unique(path, "partial"), unique(path, "partial"), unique(path, "old"), unique(other, "partial")]
    for name in (*made, hidden(path, "partial"), path):
        name.touch()
    assert sorted(leftovers(path, "partial")) == sorted(made[:2])
    assert leftovers(tmp_path / "nowhere" / "a", "partial") == []


@pytest.mark.parametrize("name", ["x" * 250, "\N{SNOWMAN}" * 83, "y" * 246 + ".mp4"])
def test_the_longest_names_that_a_system_takes(name: str, tmp_path: Path):
    path = tmp_path / name
    with only_run(path), partial_file(path) as partial:
        partial.write_bytes(b"0")
        assert len(os.fsencode(partial.name)) < 255
        assert leftovers(path, "partial") == [partial]
    assert [found.name for found in tmp_path.iterdir()] == [name]
    assert hidden(path, "lock") != hidden(path.with_name(name[:-1] + "z"), "lock")


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path: Path):
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / ".out.lock").symlink_to(tmp_path / "mine")
    with pytest.raises(InputError, match=r"\.out\.lock, is a link; remove it"), only_run(tmp_path / "out"):
        pass
    assert (tmp_path / "mine").read_bytes() == b"mine"
