"""`instructx edit` on long videos: when it takes windows, what it refuses, what it says."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from instructx_core import Editor, long_video
from instructx_core.long_video.store import WindowStore
from instructx_core.long_video.window_editor import WindowEditor
from instructx_core.video import has_more_frames, probe
from support.commands import run
from support.inverter import stand_in
from support.video_files import clip, make_video, read


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_video(tmp_path / "in.mp4", clip(20))


@pytest.fixture
def editor(inverting: Editor, monkeypatch: pytest.MonkeyPatch) -> Editor:
    monkeypatch.setattr(Editor, "edit", lambda *args, **options: pytest.fail("edited in one go"))
    monkeypatch.setattr(Editor, "from_pretrained", lambda *args, **options: inverting)
    return inverting


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--window", "five"), "--window"),
        (("--window", "-5s"), "--window"),
        (("--window", "1.5f"), "--window"),
        (("--overlap", "1m"), "--overlap"),
        (("--head", "tail"), "--head"),
        (("--guidance-from", "frame"), "--guidance-from"),
        (("--cuts", "0,5"), "--cuts"),
        (("--window", "5f", "--overlap", "9f"), "overlap"),
        (("--cuts", "500"), "cuts: 500"),
    ],
)
def test_options_out_of_range(options, word, source: Path, editor, capsys):
    assert run(source, "invert it", "-o", source.with_name("out.mp4"), *options) == 2
    captured = capsys.readouterr()
    assert word in captured.err and captured.err.count("\n") == 1 and captured.out == ""
    assert [path.name for path in source.parent.iterdir()] == ["in.mp4"]


def test_a_picture_takes_no_windows(tmp_path: Path, editor, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "in.png")
    assert run(tmp_path / "in.png", "invert it", "-o", tmp_path / "out.png", "--window", "5s", "--resume") == 2
    assert "--resume, --window" in capsys.readouterr().err


def test_several_instructions_are_not_read_from_the_whole_video(source: Path, monkeypatch, capsys):
    """Their masks are of each window; refused before a model is loaded."""
    monkeypatch.setattr(Editor, "from_pretrained", lambda *args, **options: pytest.fail("loaded a model"))
    output = source.with_name("out.mp4")
    assert run(source, "invert it", "add a dog", "-o", output, "--guidance-from", "video") == 2
    captured = capsys.readouterr()
    assert "guidance-from: video takes one sentence" in captured.err and captured.err.count("\n") == 1


def test_windows_with_a_bar_and_the_output_s_name(source: Path, editor, capsys):
    output = source.with_name("out.mp4")
    assert run(source, "invert it", "-o", output, "--window", "1s", "--overlap", "5f", "--head", "latent") == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == str(output) and "window 4 of 4" in captured.err and "4/4" in captured.err
    assert len(read(output)[0]) == 20
    assert sorted(path.name for path in source.parent.iterdir()) == ["in.mp4", "out.mp4"]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_long_video_takes_windows_unasked(suffix: str, tmp_path: Path, editor):
    source = make_video(tmp_path / f"in.{suffix}", clip(82, 16, 16))
    assert run(source, "invert it", "-o", tmp_path / "out.mp4") == 0
    assert len(read(tmp_path / "out.mp4")[0]) == 82


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "libx264"), ("mkv", "libx264"), ("webm", "libvpx")])
def test_a_short_video_takes_no_windows(suffix: str, codec: str, tmp_path: Path, monkeypatch):
    """Matroska and WebM do not say how many frames they have."""
    source, output = make_video(tmp_path / f"in.{suffix}", clip(20, 16, 16), codec=codec), tmp_path / f"out.{suffix}"
    assert (probe(source).frames is None) == (suffix != "mp4")
    editor = SimpleNamespace(edit_loaded=lambda source, *_: SimpleNamespace(frames=source.pixels))
    monkeypatch.setattr(Editor, "from_pretrained", lambda *args, **options: editor)
    monkeypatch.setattr(long_video, "edit_video", lambda *args, **options: pytest.fail("edited in windows"))
    assert run(source, "invert it", "-o", output) == 0
    assert len(read(output)[0]) == 20
    assert has_more_frames(source, 19) and not has_more_frames(source, 20)


@pytest.mark.parametrize("growing", [False, True])
def test_growing(source: Path, editor, monkeypatch, growing: bool):
    output, there = source.with_name("out.mp4"), []

    def look(self, frames, given=None, callback=None):
        there.append(output.exists())
        return stand_in(self, frames, given, callback)

    monkeypatch.setattr(WindowEditor, "edit", look)
    assert run(source, "invert it", "-o", output, "--window", "9f", *(["--growing"] if growing else [])) == 0
    assert there == [False, growing, growing, growing] and len(read(output)[0]) == 20


def test_resume(source: Path, editor, monkeypatch, capsys):
    output = source.with_name("out.mp4")

    def interrupt(self, frames, given=None, callback=None):
        if given is not None:
            raise KeyboardInterrupt
        return stand_in(self, frames, given, callback)

    monkeypatch.setattr(WindowEditor, "edit", interrupt)
    arguments = (source, "invert it", "-o", output, "--window", "9f", "--resume")  # also begins one
    assert run(*arguments) == 130
    assert "run the same command" in capsys.readouterr().err and WindowStore(output).exists
    monkeypatch.setattr(WindowEditor, "edit", stand_in)
    assert run(*arguments) == 0
    captured = capsys.readouterr()
    assert "1 of 4 windows were reused" in captured.err and "3/3" in captured.err
    assert sorted(path.name for path in source.parent.iterdir()) == ["in.mp4", "out.mp4"]


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("options", [[], ["--resume"], ["--growing"]], ids=str)
def test_sigterm_cleans_up_as_ctrl_c_does(source: Path, editor, monkeypatch, capsys, options: list[str]):
    output = source.with_name("out.mp4")

    def terminated(self, frames, given=None, callback=None):
        if given is not None:
            os.kill(os.getpid(), signal.SIGTERM)
        return stand_in(self, frames, given, callback)

    monkeypatch.setattr(WindowEditor, "edit", terminated)
    before = signal.getsignal(signal.SIGTERM)
    assert run(source, "invert it", "-o", output, "--window", "9f", *options) == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert "interrupted" in capsys.readouterr().err
    left = {"[]": ["in.mp4"], "['--resume']": [".out.mp4.windows", "in.mp4"], "['--growing']": ["in.mp4", "out.mp4"]}
    assert sorted(path.name for path in source.parent.iterdir()) == left[str(options)]
