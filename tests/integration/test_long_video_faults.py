"""What can go wrong in hours of editing, one test for each row of the table in docs/long-video.md.

The model's place is taken by an inverter (inverter.py). The folder of windows has its own file, test_windows_folder.py.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from instructx_core import EditInterrupted, Editor, EditRequest, InputError
from instructx_core.long_video import LongOptions
from instructx_core.long_video.editor_model import EditorModel
from instructx_core.long_video.store import MANIFEST, WindowStore
from instructx_core.run_lock import only_run
from instructx_core.windows import Span
from support import tiny
from support.inverter import COUNT, WORDS, edit, interrupted, names, stop_after
from support.video_files import clip, make_video, read


@pytest.fixture
def editor(inverting: Editor) -> Editor:
    return inverting


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_video(tmp_path / "in.mp4", clip(COUNT))


@pytest.fixture
def whole(editor: Editor, source: Path, tmp_path: Path) -> bytes:
    """The file that an edit which nothing interrupts writes."""
    edit(editor, source, tmp_path / "whole.mp4")
    return (tmp_path / "whole.mp4").read_bytes()


# --- crashes


@pytest.mark.slow
def test_kill_at_any_moment(editor: Editor, source: Path, whole: bytes, tmp_path: Path):
    """20 runs are killed at random; each goes on from where the last one was, to the same bytes, and all is cleaned.

    A moment is some windows after the start and a little: in time alone a slow machine would be killed at its start.
    """
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")

    target = tmp_path / "out.mp4"
    folder = WindowStore(target).folder
    dice, killed, most = random.Random(0), 0, 0

    def kept() -> int:
        try:
            return len([path for path in folder.iterdir() if path.match("0*.safetensors")])
        except FileNotFoundError:  # not made yet, or gone with the run that ended this moment
            return 0

    for _ in range(20):
        child = os.fork()
        if child == 0:
            torch.set_num_threads(1)
            status = 1
            try:
                edit(editor, source, target)
                status = 0
            finally:
                os._exit(status)
        enough, ended = kept() + dice.choice([0, 1, 1, 2]), False
        while kept() < enough and not target.exists() and not ended:
            time.sleep(0.001)
            ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        time.sleep(dice.uniform(0, 0.03))
        most = max(most, kept())
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        killed += status == signal.SIGKILL
        assert status in (0, signal.SIGKILL)  # it never fails by itself
        if target.exists():  # finished before the kill: begin again
            assert target.read_bytes() == whole
            target.unlink()
    assert killed >= 10 and most >= 2
    edit(editor, source, target)
    assert target.read_bytes() == whole
    assert names(tmp_path) == ["in.mp4", "out.mp4", "whole.mp4"]


def test_full_disk_keeps_what_is_done(editor: Editor, source: Path, whole: bytes, tmp_path: Path):
    resource = pytest.importorskip("resource")  # a limit on the size of files stands in for the end of the disk
    target = tmp_path / "out.mp4"
    store = interrupted(editor, source, target)
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(InputError, match="window 3 cannot be saved there; check whether the disk is full") as told:
            edit(editor, source, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "\n" not in str(told.value)
    assert names(store.folder) == ["00000.safetensors", "00001.safetensors", "manifest.json"]
    assert edit(editor, source, target).reused == 2 and target.read_bytes() == whole


def test_a_damaged_window_is_edited_again(editor: Editor, source: Path, whole: bytes, tmp_path: Path, caplog):
    target = tmp_path / "out.mp4"
    store = interrupted(editor, source, target, windows=3)
    for index, change in ((1, lambda data: data[:-9] + bytes(9)), (0, lambda data: data[: len(data) // 2])):
        file = store.folder / f"{index:05}.safetensors"
        file.write_bytes(change(file.read_bytes()))
        assert store.load(index) is None
        if index == 1:
            assert "is damaged" in caplog.text
    assert edit(editor, source, target).reused == 0
    assert target.read_bytes() == whole and names(tmp_path) == ["in.mp4", "out.mp4", "whole.mp4"]


def test_without_resume_nothing_is_left(editor: Editor, source: Path, tmp_path: Path, caplog):
    target = tmp_path / "out.mp4"
    with pytest.raises(EditInterrupted):
        edit(editor, source, target, resume=False, callback=stop_after(2))
    assert names(tmp_path) == ["in.mp4"]
    interrupted(editor, source, target)
    edit(editor, source, target, resume=False)
    assert "holds windows of an unfinished edit" in caplog.text and target.is_file()


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm"])
@pytest.mark.parametrize("resume", [False, True])
def test_a_growing_output_plays_at_any_time(editor: Editor, source: Path, tmp_path: Path, suffix: str, resume: bool):
    """Windows of 5 begin at 0, 4, 8, 12: while one is edited, all frames before it are there but for one or two."""
    target = tmp_path / f"out.{suffix}"
    seen = []

    def look(at) -> bool:
        if at.window > 1:
            seen.append(read(target))
        return at.window < 4

    with pytest.raises(EditInterrupted):
        edit(editor, source, target, growing=True, resume=resume, callback=look)
    stopped = read(target)
    for (frames, _), begun in zip(seen, (4, 8, 12), strict=True):
        assert begun - 2 <= len(frames) < begun
    assert len(stopped[0]) == 12
    assert edit(editor, source, target, growing=True, resume=resume).reused == (3 if resume else 0)
    whole = read(target)
    assert len(whole[0]) == COUNT
    for frames, times in (*seen, stopped):
        assert np.array_equal(frames, whole[0][: len(frames)]) and times == whole[1][: len(times)]
    assert names(tmp_path) == ["in.mp4", f"out.{suffix}"]


def test_killed_while_growing_it_plays(editor: Editor, source: Path, tmp_path: Path):
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    target = tmp_path / "out.mp4"
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        edit(editor, source, target, growing=True, callback=lambda at: at.window < 3 or os.kill(os.getpid(), 9))
        os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert len(read(target)[0]) == 7
    assert edit(editor, source, target, growing=True).reused == 2
    assert len(read(target)[0]) == COUNT and names(tmp_path) == ["in.mp4", "out.mp4"]


# --- memory that was free, or was not


def loaded(tiled: bool = False, dtype: torch.dtype = torch.float32) -> Editor:
    """The model as it may be loaded for the same command."""
    editor = Editor(tiny.components())
    editor.codec.to(dtype)
    if tiled:
        editor.codec.vae.enable_tiling()
    return editor


def test_what_free_memory_decides_is_part_of_an_edit():
    plain, tiled, half = (
        EditorModel(one, EditRequest(WORDS)).identity()
        for one in (loaded(), loaded(tiled=True), loaded(dtype=torch.bfloat16))
    )
    assert tiled == plain | {"vae": "tiled"} and "vae" not in plain
    assert half == plain | {"dtype": "bfloat16", "model": half["model"]} and plain["dtype"] == "float32"


def test_kept_windows_of_a_tiled_vae_go_on_with_tiles(editor: Editor, source: Path, whole: bytes, tmp_path: Path):
    target, now, seen = tmp_path / "out.mp4", loaded(), []
    interrupted(loaded(tiled=True), source, target)
    result = edit(now, source, target, callback=lambda _: seen.append(now.codec.vae.use_tiling))
    assert result.reused == 2 and seen and all(seen) and not now.codec.vae.use_tiling
    assert target.read_bytes() == whole


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ({"dtype": torch.bfloat16}, r"made in float32, and the model is loaded in bfloat16; .*\(--dtype float32\)"),
        ({"tiled": True}, "made with a whole VAE, for which too little memory is free now"),
    ],
)
def test_windows_stay_where_less_memory_is_free(
    editor: Editor, source: Path, whole: bytes, tmp_path: Path, now: dict, words: str
):
    target = tmp_path / "out.mp4"
    store = interrupted(loaded(), source, target)
    with pytest.raises(InputError, match=words) as told:
        edit(loaded(**now), source, target)
    assert "\n" not in str(told.value) and store.count() == 2
    assert edit(loaded(), source, target).reused == 2 and target.read_bytes() == whole
    interrupted(loaded(), source, tmp_path / "other.mp4")
    assert edit(loaded(**now), source, tmp_path / "other.mp4", seed=3).reused == 0  # of another edit: no use any more


@pytest.mark.parametrize(
    ("kept", "now"), [({"tiled": True}, {}), ({}, {"tiled": True}), ({}, {"dtype": torch.bfloat16})]
)
@pytest.mark.parametrize("other", ["source", "window", "cache"])
def test_windows_of_another_edit_decide_neither_dtype_nor_tiles(
    editor: Editor, source: Path, tmp_path: Path, other: str, kept: dict, now: dict
):
    target, before, after, seen = tmp_path / "out.mp4", loaded(**kept), loaded(**now), []
    if other == "cache":
        before.shortcuts = {"cache": "taylor"}
    interrupted(before, source, target)
    if other == "source":
        make_video(source, clip(COUNT)[::-1].copy())
    options = LongOptions(window=Span.parse("9f" if other == "window" else "5f"))
    told = {"options": options, "callback": lambda _: seen.append(after.codec.vae.use_tiling)}
    assert edit(after, source, target, **told).reused == 0
    assert set(seen) == {"tiled" in now}


def test_one_window_is_not_several(editor: Editor, source: Path, tmp_path: Path):
    interrupted(loaded(), source, tmp_path / "out.mp4", windows=1)
    with pytest.raises(InputError, match="holds 1 finished window made in float32"):
        edit(loaded(dtype=torch.bfloat16), source, tmp_path / "out.mp4")


def test_windows_of_a_version_that_noted_no_dtype_are_used(editor: Editor, source: Path, whole: bytes, tmp_path: Path):
    target = tmp_path / "out.mp4"
    manifest = interrupted(loaded(), source, target).folder / MANIFEST
    noted = json.loads(manifest.read_text())
    del noted["dtype"]
    manifest.write_text(json.dumps(noted))
    assert edit(loaded(), source, target).reused == 2 and target.read_bytes() == whole


# --- two runs


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_run_at_one_output_is_refused(editor: Editor, source: Path, whole: bytes, tmp_path: Path, resume):
    """From this process and from another one; the first run does not notice."""
    target, words = tmp_path / "out.mp4", []

    def second(at) -> None:
        if at.window == 2:
            with pytest.raises(InputError, match=r"out\.mp4: another run is writing there") as caught:
                edit(editor, source, target, resume=resume)
            words.append(str(caught.value))
            words.append(lock_from_another_process(target))

    edit(editor, source, target, resume=resume, callback=second)
    assert len(words) == 2 and words[0] == words[1] and "\n" not in words[0]
    assert target.read_bytes() == whole and names(tmp_path) == ["in.mp4", "out.mp4", "whole.mp4"]
    assert lock_from_another_process(target) == "free"


def lock_from_another_process(target: Path) -> str:
    code = (
        "import sys; from pathlib import Path; from instructx_core.run_lock import only_run\n"
        "try:\n    with only_run(Path(sys.argv[1])): print('free')\n"
        "except Exception as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, target], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_dead_run_holds_no_lock(editor: Editor, source: Path, whole: bytes, tmp_path: Path):
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    target = tmp_path / "out.mp4"
    child = os.fork()
    if child == 0:
        with only_run(target):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert names(tmp_path) == [".out.mp4.lock", "in.mp4", "whole.mp4"]
    edit(editor, source, target)
    assert target.read_bytes() == whole and names(tmp_path) == ["in.mp4", "out.mp4", "whole.mp4"]


# --- an output that cannot be written


@pytest.mark.parametrize("growing", [False, True])
def test_it_is_found_before_a_window_is_edited(
    editor: Editor, source: Path, tmp_path: Path, monkeypatch, growing: bool
):
    from instructx_core.long_video import edit as edit_module

    calls = []
    refused = InputError("out.mp4: the tracks of in.mp4 cannot be written in this format")

    def refuse(path: Path, like: object, is_growing: bool) -> None:
        calls.append((path, is_growing))
        raise refused

    monkeypatch.setattr(edit_module, "check_writer", refuse)
    with pytest.raises(InputError, match="cannot be written in this format"):
        edit(editor, source, tmp_path / "out.mp4", growing=growing, callback=lambda at: calls.append(at))
    assert calls == [(tmp_path / "out.mp4", growing)] and names(tmp_path) == ["in.mp4"]


def test_five_channels_and_bass_to_webm(editor: Editor, tmp_path: Path):
    """AC-3 whose surround channels lie at the sides, which Opus calls back channels."""
    source = tmp_path / "in.mp4"
    with av.open(str(source), "w") as output:
        stream = output.add_stream("libx264", rate=10, width=48, height=32, pix_fmt="yuv420p")
        track = output.add_stream("ac3", rate=48_000, layout="5.1(side)")
        for index, frame in enumerate(clip(5)):
            made = av.VideoFrame.from_ndarray(frame)
            made.pts = index
            output.mux(stream.encode(made))
        output.mux(stream.encode(None))
        sound = av.AudioFrame.from_ndarray(np.ones((1, 6 * 24_000), np.int16), format="s16", layout="5.1(side)")
        sound.rate, sound.pts = 48_000, 0
        output.mux(track.encode(sound))
        output.mux(track.encode(None))
    edit(editor, source, tmp_path / "out.webm")
    with av.open(str(tmp_path / "out.webm")) as container:
        assert container.streams.audio[0].codec_context.layout.name == "5.1"


# --- another edit than before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "changed since the last run: seed"),
        ({"steps": 7}, "changed since the last run: steps"),
        ({"options": LongOptions(window=Span.parse("9f"))}, "changed since the last run: window"),
        ({"reference": np.zeros((8, 8, 3), np.uint8)}, "changed since the last run: references"),
    ],
)
def test_changed_settings_start_anew_and_say_so(editor: Editor, source: Path, tmp_path: Path, change, named, caplog):
    target = tmp_path / "out.mp4"
    interrupted(editor, source, target)
    with caplog.at_level(logging.WARNING):
        assert edit(editor, source, target, **change).reused == 0
    assert named in caplog.text
    assert names(tmp_path) == ["in.mp4", "out.mp4"]


def test_another_source_starts_anew(editor: Editor, source: Path, tmp_path: Path, caplog):
    target = tmp_path / "out.mp4"
    interrupted(editor, source, target)
    make_video(source, clip(COUNT)[::-1].copy())
    assert edit(editor, source, target).reused == 0
    assert "changed since the last run: source" in caplog.text
    assert len(read(target)[0]) == COUNT


def test_another_model_starts_anew(editor: Editor, source: Path, tmp_path: Path, caplog):
    from support import tiny

    target = tmp_path / "out.mp4"
    interrupted(editor, source, target)
    other = Editor(tiny.components(seed=1))
    assert edit(other, source, target).reused == 0
    assert "changed since the last run: model" in caplog.text


def test_a_source_that_changes_meanwhile_is_told(editor: Editor, source: Path, tmp_path: Path):
    def spoil(at) -> None:
        if at.window == 2:
            make_video(source, clip(COUNT)[::-1].copy())

    with pytest.raises(InputError, match=r"in\.mp4 has changed during the edit"):
        edit(editor, source, tmp_path / "out.mp4", callback=spoil, resume=False)
    assert names(tmp_path) == ["in.mp4"]
