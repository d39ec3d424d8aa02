"""Values of the wrong type, in Python and on the command line: one sentence before any work."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instructx_core import Editor, InputError, InstructXError, edit_video
from instructx_core.instruction import LONGEST, check_instruction
from instructx_core.long_video import Head, LongOptions
from instructx_core.paths import readable_file, writable_file
from instructx_core.windows import Span
from support.video_files import make_video

PICTURE = np.zeros((48, 48, 3), np.uint8)
ODD: tuple[Any, ...] = (5, -0.5, b"a", [1], {"a": 1}, object, "\udcff", "x" * 5000, "a\0b", "\x1b[2J\nsecond")


def one_sentence(error: BaseException) -> bool:
    return str(error).isprintable() and len(str(error)) < 800


@pytest.mark.parametrize("name", ["path", "transformer", "vae", "mllm", "loras", "memory", "attention", "cache"])
@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_options_of_a_model(name: str, value: Any):
    with pytest.raises(InstructXError) as error:
        Editor.from_pretrained(**{"device": "cpu", name: value})
    assert one_sentence(error.value), str(error.value)[:300]


@pytest.mark.parametrize(
    "value", [*ODD[1:7], *ODD[8:], "meta", "privateuseone", "cuda:99", "xla", "", -1, 2**64, 10**30], ids=str
)
def test_devices(value: Any):
    with pytest.raises(InputError) as error:
        Editor.from_pretrained(device=value)
    assert one_sentence(error.value), str(error.value)[:300]


@pytest.mark.parametrize("loras", [[("a", 1, 2)], [("a",)], ["ab", "c"], [(None, 1.0)], [5]])
def test_loras_are_pairs(loras: Any):
    with pytest.raises(InputError, match=r"pairs \(path, strength\)|A LoRA is"):
        Editor.from_pretrained(device="cpu", loras=loras)


@pytest.mark.parametrize("name", ["window", "overlap", "head", "reading", "anchor_colour", "cuts"])
@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_options_of_a_long_edit(name: str, value: Any):
    if name == "cuts" and value == [1]:
        assert LongOptions(cuts=(1,)).cuts == (1,)
        return
    with pytest.raises(InputError) as error:
        LongOptions(**{name: value})
    assert one_sentence(error.value) and (name in str(error.value) or "Span" in str(error.value))


def test_good_options_of_a_long_edit():
    options = LongOptions(window=Span.parse("5f"), head=Head.SOURCE, cuts="auto")
    assert options.cuts == "auto" and options.head is Head.SOURCE


@pytest.mark.parametrize("name", ["source", "output"])
@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_paths_of_a_long_edit(name: str, value: Any, tiny_editor: Editor, tmp_path: Path):
    if name == "output" and value in ("\x1b[2J\nsecond", "\udcff"):
        pytest.skip("names like any other to this system")
    given = {"source": make_video(tmp_path / "in.mp4"), "output": tmp_path / "out.mp4", "instruction": "x", name: value}
    with pytest.raises(InputError) as error:
        edit_video(tiny_editor, **given)
    assert one_sentence(error.value), str(error.value)[:300]


@pytest.mark.parametrize("check", [readable_file, writable_file])
@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_paths(check: Any, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    if check is writable_file and value in ("\x1b[2J\nsecond", "\udcff"):
        assert check(value) == Path(value)  # names like any other to this system
        return
    with pytest.raises(InputError) as error:
        check(value)
    assert one_sentence(error.value), str(error.value)[:300]


@pytest.mark.parametrize("length", [256, 5000])
def test_an_output_name_that_no_system_takes(length: int, tmp_path: Path):
    with pytest.raises(InputError, match="its name is too long"):
        writable_file(tmp_path / ("x" * length + ".png"))


def test_only_regular_files_are_read(tmp_path: Path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no FIFOs")
    os.mkfifo(tmp_path / "pipe.png")
    found: list[str] = []

    def read() -> None:
        for path in (tmp_path / "pipe.png", "/dev/zero"):
            with pytest.raises(InputError) as error:
                readable_file(path)
            found.append(str(error.value))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(20)
    assert len(found) == 2 and all("it is not a regular file" in text for text in found)


@pytest.mark.parametrize("text", ["caf\udce9", "\ud83d", "x" * (LONGEST + 1), "  \n", "", None, 5, b"x"])
def test_instructions_that_are_none(text: object):
    with pytest.raises(InputError) as error:
        check_instruction(text)
    assert one_sentence(error.value)


@pytest.mark.parametrize("text", ["x" * LONGEST, "把圆变成蓝色 🟦", "\u202e right to left", "\x1b[2J"])
def test_instructions_that_are(text: str):
    check_instruction(text)


def test_a_message_is_one_line_whatever_it_names():
    text = str(InputError("a\x1b[2J\nb\udcff: " + "x" * 5000))
    assert text.isprintable() and text.startswith("a\\x1b[2J b\\udcff: xxx") and len(text) <= 1500
