"""What the command prints, whatever names hold and wherever it goes: a result, one line or silence, no traceback."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from instructx_core import cli
from instructx_core.cli.printing import CLOSED_PIPE, complain, say
from instructx_core.cli.progress import Board, Progress
from support.video_files import make_video

ESCAPES = "a\x1b[2J\x1b]0;owned\x07\nb"
SHELL = Path("/bin/bash")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "in.png"
    Image.new("RGB", (24, 24), "red").save(path)
    return path


def refused(capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code
    out, error = capfd.readouterr()
    assert code == 2 and out == "" and error.count("\n") == 1, (code, out, error)
    assert all(letter.isprintable() for letter in error.rstrip("\n")) and len(error) < 1200
    return error


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = f"set -o pipefail; {sys.executable} -m instructx_core {command}"
    return subprocess.run(
        [SHELL, "-c", command], capture_output=True, text=True, timeout=100, env=os.environ | environment
    )


# --- names


def test_names_are_escaped_in_every_refusal(picture: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = picture.parent
    words, output = "make it gray", ("-o", folder / "o.png")
    for arguments in (
        ("edit", folder / ESCAPES, words, *output),
        ("edit", picture, words, "-o", folder / f"{ESCAPES}.xyz"),
        ("edit", picture, words, *output, "--model", folder / ESCAPES),
        ("edit", picture, words, *output, "--vae", folder / ESCAPES),
        ("edit", picture, words, *output, "--lora", folder / ESCAPES),
        ("edit", picture, words, *output, "--reference", folder / ESCAPES),
        ("edit", picture, words, *output, "--device", ESCAPES),
        ("edit", picture, words, *output, "--steps", ESCAPES),
        ("edit", picture, words, *output, "--cuts", ESCAPES),
        ("edit", picture, words, *output, f"--{ESCAPES}"),
        (ESCAPES,),
        ("info", folder / ESCAPES),
        ("train", folder / ESCAPES),
        ("convert", folder / ESCAPES, folder / "x"),
        ("calibrate", folder / ESCAPES),
    ):
        assert "\\x1b[2J" in refused(capfd, *arguments)
    assert [path.name for path in folder.iterdir()] == ["in.png"]


def test_names_that_are_too_long_are_one_line_everywhere(picture: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words, long = "make it gray", "a" * 5000
    clip = make_video(picture.with_name("in.mp4"))
    output = ("-o", picture.with_name("o.png"))
    for arguments in (
        ("edit", long, words, *output),
        ("edit", picture, words, "-o", f"{long}.png"),
        ("edit", picture, words, "-o", "b/" * 2500 + "o.png"),
        ("edit", picture, words, "-o", picture.with_name("a" * 252 + ".png")),
        ("edit", clip, words, "-o", picture.with_name("a" * 252 + ".mp4")),
        ("edit", clip, words, "-o", picture.with_name("a" * 252 + ".mp4"), "--window", "5f"),
        *(("edit", picture, words, *output, f"--{name}", long) for name in ("model", "transformer", "vae", "mllm")),
        ("edit", picture, words, *output, "--lora", long),
        ("edit", picture, words, *output, "--reference", long),
        ("info", long),
        ("train", long),
        ("convert", long, "x"),
        ("calibrate", long),
        ("world", "-o", long, "--count", "1"),
        ("evaluate", "--json", long),
        ("demo", "-o", long),
    ):
        refused(capfd, *arguments)
    assert sorted(path.name for path in picture.parent.iterdir()) == ["in.mp4", "in.png"]


@pytest.mark.parametrize("option", ["--steps", "--seed", "--cuts", "--window", "--overlap", "--shift", "--height"])
def test_numbers_of_thousands_of_digits_are_named(
    option: str, picture: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    error = refused(capfd, "edit", picture, "invert it", "-o", "o.png", option, "1" * 5000)
    assert f"argument {option}" in error and "invalid _" not in error


def test_what_the_library_logs_is_one_line_each(capfd: pytest.CaptureFixture[str], monkeypatch) -> None:
    def warn(_arguments: object) -> None:
        logging.getLogger("instructx_core.video.reader").warning("%s: it is\nodd.", ESCAPES)

    monkeypatch.setattr("instructx_core.cli.info._run_info", warn)
    assert cli.main(["info"]) == 0
    assert capfd.readouterr().err == "a\\x1b[2J\\x1b]0;owned\\x07 b: it is odd.\n"


def test_paths_are_printed_on_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    say(Path("a\nb\x1b[2J\udcff.png"))
    say("a\nb\x1b")
    assert capfd.readouterr().out == "a\\nb\\x1b[2J\\udcff.png\na\nb\\x1b\n"


# --- undecodable instructions and names


def test_an_instruction_in_another_encoding_is_refused(picture: Path, capfd: pytest.CaptureFixture[str]) -> None:
    error = refused(capfd, "edit", picture, "caf\udce9 make it blue", "-o", picture.with_name("o.png"))
    assert "is not valid Unicode text" in error


def test_names_that_are_no_utf_8_work_or_are_named(
    bundled: Path, picture: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    odd = picture.with_name("\udcff.png")
    assert "\\udcff.png: it does not exist" in refused(capfd, "edit", odd, "invert it", "-o", "o.png")
    odd.write_bytes(picture.read_bytes())
    clip = make_video(picture.with_name("in.mp4")).rename(picture.with_name("\udcff.mp4"))
    for source, output in ((odd, "\udcfe.png"), (clip, "\udcfe.mp4")):
        output = picture.with_name(output)
        assert cli.main(["edit", str(source), "invert it", "-o", str(output), "--steps", "1"]) == 0
        assert output.is_file() and capfd.readouterr().out.endswith(f"\\udcfe{output.suffix}\n")


def test_an_ascii_terminal_gets_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    say(Path("ü😀.png"))
    assert written.getvalue() == b"\\xfc\\U0001f600.png\n"


# --- stdout that cannot be written to


@pytest.mark.skipif(not SHELL.exists(), reason="needs bash")
def test_nobody_listens() -> None:
    piped = shell("--help | head -0")
    assert (piped.returncode, piped.stdout, piped.stderr) == (CLOSED_PIPE, "", "")
    full = shell("--help > /dev/full")
    assert full.returncode == 2 and full.stderr.startswith("instructx: The result cannot be printed (No space left")
    assert full.stderr.count("\n") == 1
    closed = shell("--help >&-")
    assert (closed.returncode, closed.stderr) == (0, "")
    mute = shell("edit 2> /dev/full")
    assert mute.returncode == 2


def test_a_closed_stderr_is_silence(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    complain("wrong")
    with Progress("editing") as progress:
        progress(1, 2)
    with Board() as board:
        board(["a line"])
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.skipif(not SHELL.exists(), reason="needs bash")
def test_nobody_listens_to_a_result(bundled: Path) -> None:
    piped = shell("info | head -0")
    assert (piped.returncode, piped.stdout, piped.stderr) == (CLOSED_PIPE, "", "")
