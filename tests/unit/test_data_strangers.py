"""Tables from strangers: they name no other file, run nothing, fetch nothing, and need no more than they must."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import pytest

from instructx_core.errors import InputError
from instructx_core.training.data.opening import open_table
from instructx_core.training.data.pixels import read_example
from instructx_core.training.data.rows import Row
from instructx_core.training.data.table import Broken
from support import public_sets
from support.public_sets import config, rows_of

ESCAPES = ["../secret.png", "{outside}/secret.png", "link.png", "folder/secret.png", "pipe", "/dev/zero", "a\0b",
           "n" * 300, "https://example.com/a.png", "file:///etc/passwd", "."]  # fmt: skip


@pytest.mark.parametrize("name", ESCAPES)
def test_rows_name_no_other_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    public_sets.put(tmp_path / "secret.png", 0, False)
    public_sets.put(tmp_path / "set/a.png", 0, False)
    (tmp_path / "set/link.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "set/folder").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "set/pipe")
    lines = [{"before": name.format(outside=tmp_path), "after": "a.png", "text": "x"}] * 2
    (tmp_path / "set/list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for row in rows_of(open_table(config(tmp_path / "set/list.jsonl", "other"))):
        assert isinstance(row, Broken) and ("is outside of" in row.words or "there is no file" in row.words), row
    if "secret" in name and not name.startswith(".."):  # who owns the machine may say where files are
        table = open_table(config(tmp_path / "set/list.jsonl", "other", root=str(tmp_path)))
        found = [isinstance(row, Row) for row in rows_of(table)]
        assert found == [name.startswith(("{", "folder"))] * 2


def test_links_and_huge_members_of_an_archive_are_broken_rows(tmp_path: Path) -> None:
    import tarfile

    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for number in range(4):
            public_sets.add(archive, f"{number}.1.jpg", public_sets.encoded(public_sets.picture(number, False)))
            if number == 1:
                link = tarfile.TarInfo("1.2.jpg")
                link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
                archive.addfile(link)
            else:
                public_sets.add(archive, f"{number}.2.jpg", public_sets.encoded(public_sets.picture(number, True)))
            if number == 2:
                public_sets.add(archive, "2.2.jpg", b"again")
            public_sets.add(archive, f"{number}.txt", b"x")
    rows = rows_of(open_table(config(path)))
    assert [isinstance(row, Row) for row in rows] == [True, False, False, False, True]
    assert "is a link or device" in rows[1].words and "no source" in rows[3].words and rows[2] is None  # has no words
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as archive:
        header = archive.getmember("3.2.jpg")
    header.size = 1 << 33
    content[header.offset : header.offset + 512] = header.tobuf(tarfile.GNU_FORMAT)
    path.write_bytes(content)
    rows = rows_of(open_table(config(path)))
    assert [isinstance(row, Row) for row in rows] == [True] + [False] * 5
    assert "cut off" in rows[4].words or "over the limit of 256 MB" in rows[4].words
    assert "cut off" in rows[5].words


def test_a_member_over_the_limit_is_named_by_its_size(tmp_path: Path) -> None:
    import tarfile

    path = tmp_path / "a.tar"
    for name in ("source.mp4", "target.mp4", "json"):
        member = tarfile.TarInfo(f"0.{name}")
        member.size = 300 << 20 if name == "source.mp4" else 512
        with path.open("ab") as file:
            file.write(member.tobuf())
            file.truncate(file.tell() + member.size)  # sparse
    os.truncate(path, path.stat().st_size + 1024)  # the end mark
    (row,) = rows_of(open_table(config(path)))
    assert row == Broken("'0' in 'a.tar': its 'source.mp4' has 300 MB, over the limit of 256 MB")


@pytest.mark.parametrize("suffix", ["pkl", "pyd", "pth", "pyc", "py", "npy"])
def test_no_member_of_an_archive_runs_code(suffix: str, bomb: bytes, flag: Path, tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        public_sets.add(archive, f"0.1.{suffix}", bomb)
        public_sets.add(archive, "0.1.jpg", public_sets.encoded(public_sets.picture(0, False)))
        public_sets.add(archive, "0.2.jpg", public_sets.encoded(public_sets.picture(0, True)))
        public_sets.add(archive, f"0.{suffix}", bomb)
        public_sets.add(archive, "0.txt", b"x")
        public_sets.add(archive, "1.1.jpg", bomb)
        public_sets.add(archive, "1.2.jpg", bomb)
        public_sets.add(archive, "1.txt", bomb)
        public_sets.add(archive, "1.json", bomb)
    data = config(tmp_path / "a.tar")
    rows = rows_of(open_table(data))
    assert isinstance(rows[0], Row) and isinstance(rows[1], Broken)
    read_example(rows[0], data, 16, 4)
    assert not flag.exists()


def test_nothing_is_fetched_and_no_script_beside_the_data_runs(monkeypatch, tmp_path: Path) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("nhr-edit-parquet", "x2edit"):
        folder = tmp_path / name / "[0-9]*"  # no pattern either
        public_sets.make(name, folder)
        for script in ("parquet.py", f"{folder.name}.py", "dataset.py", "conftest.py"):
            (folder / script).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
        monkeypatch.chdir(folder)
        assert sum(isinstance(row, Row) for row in rows_of(open_table(config(folder)))) == 10
    assert not (tmp_path / "ran").exists()


def test_types_that_a_parquet_file_claims_are_left_aside(tmp_path: Path) -> None:
    """A file whose metadata calls a column a picture is not decoded by the library: its bytes come as they are."""
    import datasets
    import pyarrow.parquet

    rows = [{"src_video": "a.mp4", "tgt_video": "b.mp4", "prompt": "x", "ref_image_bytes": b"no picture"}]
    features = datasets.Features({**dict.fromkeys(("src_video", "tgt_video", "prompt"), datasets.Value("string")),
                                  "ref_image_bytes": datasets.Image()})  # fmt: skip
    datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "a.parquet")
    assert b"huggingface" in pyarrow.parquet.read_schema(tmp_path / "a.parquet").metadata
    (row,) = rows_of(open_table(config(tmp_path / "a.parquet")))
    assert isinstance(row, Broken) and "there is no file" in row.words


def test_a_row_group_beyond_memory_is_refused(sets: dict[str, Path], monkeypatch) -> None:
    monkeypatch.setattr("instructx_core.training.data.parquet.LARGEST_GROUP", 1000)
    with pytest.raises(InputError, match="fewer rows per group"):
        open_table(config(next(sets["magicbrush"].rglob("train*.parquet"))))


@pytest.mark.parametrize(("name", "module"), [("magicbrush", "datasets"), ("x2edit", "webdataset")])
def test_a_missing_extra_is_named(name: str, module: str, sets: dict[str, Path], monkeypatch) -> None:
    for loaded in [each for each in sys.modules if each.split(".")[0] in (module, "pyarrow")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match="run `pip install datasets webdataset`"):
        list(rows_of(open_table(config(sets[name]))))


def test_our_own_tables_need_no_extra(sets: dict[str, Path], monkeypatch) -> None:
    for module in ("datasets", "webdataset", "pyarrow"):
        for loaded in [each for each in sys.modules if each.split(".")[0] == module]:
            monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.setitem(sys.modules, module, None)
    for name in ("own", "ditto", "gpt-image-edit"):
        assert open_table(config(sets[name])).total in (10, 11)
