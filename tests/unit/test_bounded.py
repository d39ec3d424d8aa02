"""The one reader of outside files: bounded in kind, bytes, depth and count, and one short sentence for each refusal."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from instructx_core.bounded import (
    CONFIG_BYTES,
    UnreadableError,
    is_dir,
    is_file,
    open_regular,
    parse_json,
    parse_yaml,
    read_bytes,
    read_json,
    read_yaml,
)
from instructx_core.errors import InputError
from instructx_core.words import listed, one_line, quoted, quoted_path, shown

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGE_BOMB = "a: &a {k: 1, l: 2}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 9)}]}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def refusal(call) -> str:
    start = time.monotonic()
    with pytest.raises(UnreadableError) as caught:
        call()
    assert time.monotonic() - start < 10
    message = str(caught.value)
    assert len(message) < 700 and message.isprintable()
    assert isinstance(caught.value, InputError)
    return message


def test_json_and_yaml_come_as_they_are(tmp_path: Path):
    plain = {"a": [1, 2.5, None, {"b": "ü"}], "c": True}
    (tmp_path / "a.json").write_text(json.dumps(plain))
    (tmp_path / "b.json").write_text("\ufeff" + json.dumps(plain), encoding="utf-8")  # as editors on Windows save it
    assert read_json(tmp_path / "a.json") == read_json(tmp_path / "b.json") == plain
    (tmp_path / "a.yaml").write_text("base: &base {steps: 2}\nmore: {<<: *base, seed: 3}\nagain: *base\n")
    assert read_yaml(tmp_path / "a.yaml")["more"] == {"steps": 2, "seed": 3}
    assert parse_yaml("", "it") is None


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "[" * 65 + "]" * 65, '{"a":' * 65 + "1" + "}" * 65])
def test_deep_texts_are_refused(text: str):
    assert "nested more than 64 levels deep" in refusal(lambda: parse_json(text, "it"))


def test_the_depth_that_is_allowed_is_read():
    assert parse_json("[" * 64 + "]" * 64, "it")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "aliases expand to more than"),
        (MERGE_BOMB, "aliases expand to more than"),
        ("a: &a [*a]", "contains itself"),
        ("[" * 5000, "levels deep"),
        ("- " * 3000 + "a", "levels deep"),
        ("a: [", "not valid YAML"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("a: !!python/object/apply:os.system [ls]", "not valid YAML"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ("a: 2001-99-99", "not valid YAML"),
        ("x" * 300_000, "larger than 256 kB"),
        ("on: 1", "key True is not a string"),
        ("\x1b[2J", "not valid YAML"),
    ],
)
def test_hostile_yaml_is_refused(text: str, said: str):
    assert said in refusal(lambda: parse_yaml(text, "it"))


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("a: 1\nkey: [hush, b\n", "(line 3, column 1: "),
        ("a: 1\n---\nkey: hush", "(line 2, column 1: "),
        ("a: hush\n\tkey: 1", "(line 2, column 1: "),
        ("key: 'hush", "(line 1, column 11: "),
    ],
)
def test_an_error_in_yaml_is_located_without_the_content(text: str, where: str):
    said = refusal(lambda: parse_yaml(text, "it"))
    assert where in said and "hush" not in said and "key" not in said, said


@pytest.mark.parametrize("text", ["", "{", "nul", "\ud800", "{'a': 1}", "9" * 5000, b"\xff\xfe"])
def test_no_json_is_refused(text: str):
    assert "it is not valid JSON" in refusal(lambda: parse_json(text, "it"))


def test_only_regular_files_are_opened(tmp_path: Path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "latin").write_bytes(b'{"a": "\xfc"}')
    for name, said in {
        "fifo": "not a regular file",
        "link": "not a regular file",
        ".": "it is a folder",
        "loop": "symbolic links",
        "none": "it does not exist",
        "x" * 5000: "its name is too long",
        "x" * 300: "its name is too long",
        "a\0b": "null",
        "latin": "not UTF-8",
    }.items():
        assert said in refusal(lambda name=name: read_json(tmp_path / name)), name
    with pytest.raises(UnreadableError):
        open_regular(tmp_path / "fifo")


def test_files_are_bounded_in_bytes(tmp_path: Path):
    with open(tmp_path / "large", "wb") as file:
        file.truncate(CONFIG_BYTES + 1)  # sparse
    assert "it is larger than 16 MB" in refusal(lambda: read_json(tmp_path / "large"))
    (tmp_path / "fits").write_bytes(b"12345")
    assert read_bytes(tmp_path / "fits", 5) == b"12345"
    refusal(lambda: read_bytes(tmp_path / "fits", 4))


def test_names_that_no_system_takes_are_no_files(tmp_path: Path):
    for name in ("x" * 300, "a/" * 3000, "a\0b"):
        assert not is_file(tmp_path / name)
        assert not is_dir(tmp_path / name)
    assert is_dir(tmp_path)


def test_words_from_outside_are_escaped_and_cut():
    hostile = "x\x1b[2J\x1b]0;pwn\x07\nfake line\u202e\udcff"
    for text in (quoted(hostile), quoted_path(hostile), shown(hostile), listed([hostile]), one_line(hostile)):
        assert text.isprintable()
        assert "\\x1b[2J" in text
    long = "a" * 1_000_000 + "END"
    for text in (quoted(long), shown(long), listed([long])):
        assert len(text) < 120 and text.endswith("END'")
    assert len(one_line("a\n" * 100_000)) <= 1000
    assert shown([[1] * 10] * 10) == "a list of 10"
    assert shown([64, 64]) == "[64, 64]"
    assert shown({"a": float("nan")}) == "{'a': nan}"
    assert shown(10**5000) == "an integer with hundreds of digits"
    assert listed(["a", "b", "c", "d"]) == "'a', 'b', 'c', ..."
    assert quoted("plain.name") == "'plain.name'"
