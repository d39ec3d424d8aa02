"""Training states: whole or not used, never unpickled, and each that is not used is named."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import random
import re
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from instructx_core import InputError, cli
from instructx_core.run_lock import only_run
from instructx_core.training import states
from instructx_core.training.stages import train
from instructx_core.training.states import find_state, read_state, saved_states, write_state
from instructx_core.training.tasks import make_task
from instructx_core.training.trainer import Trainer
from instructx_core.weights.files import write_safetensors
from instructx_core.world_folder import write_pairs
from support.training_runs import (
    assert_same,
    editing_config,
    read_editing,
    start_training,
    wait_for_state,
    weights,
    write_config,
)

NEWEST, OLDER = "00000004", "00000002"
WEIGHTS, AVERAGE, OPTIMIZER = (f"{kind}-1-of-1.safetensors" for kind in ("weights", "average", "optimizer"))
BIAS = "denoiser.source_embedding.bias"
SETTINGS = {"average": 0.9, "decay_from": 1.0, "train": ["queries", "source_embedding"]}


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.flag}",)


@pytest.fixture(scope="module")
def finished(foundation: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps with two states; read-only."""
    output = tmp_path_factory.mktemp("finished") / "run"
    train(read_editing(foundation, output, steps=4, **SETTINGS))
    return output


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished / "states", tmp_path / "run" / "states")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def expected(foundation: Path, finished: Path) -> dict:
    """What a state of that run holds."""
    config = read_editing(foundation, finished, steps=4, **SETTINGS)
    return Trainer(config, make_task(config)).expected_tensors()


def resume(foundation: Path, run: Path, **changes: object) -> None:
    """Go on to step 5."""
    train(read_editing(foundation, run, steps=5, **{**SETTINGS, **changes}), resume=True)


def sign(folder: Path) -> None:
    """Bring the manifest in step with the files, as someone would who means harm."""
    files = {
        path.name: [path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()]
        for path in folder.iterdir()
        if path.name != "manifest.json"
    }
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "files": files}))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def replace_with_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_with_zeros(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def deep(path: Path) -> None:
    path.write_text("[" * 200_000)


def deep_header(folder: Path) -> None:
    text = b'{"a":' + b"[" * 200_000
    (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text)
    sign(folder)


def other_shape(folder: Path, kind: str, name: str) -> None:
    tensors = dict(read_state(folder).tensors[kind])
    write_safetensors(folder / f"{kind}-1-of-1.safetensors", {**tensors, name: torch.zeros(3, 7)})
    sign(folder)


def progress(folder: Path, text: str) -> None:
    (folder / "progress.json").write_text(text)
    sign(folder)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda state: (state / WEIGHTS).unlink(), "weights.*missing"),
    "extra": (lambda state: (state / "notes.txt").write_text("x"), "notes.txt' does not belong"),
    "extra, listed": (lambda state: ((state / "notes.txt").write_text("x"), sign(state)), "notes.txt' does not"),
    "extra folder": (lambda state: (state / "more").mkdir(), "more' does not belong"),
    "changed": (lambda state: flip(state / WEIGHTS), "checksum"),
    "truncated": (lambda state: os.truncate(state / WEIGHTS, 100), "100 bytes"),
    "empty": (lambda state: os.truncate(state / WEIGHTS, 0), "0 bytes"),
    "of another state": (lambda state: shutil.copy(state.with_name(OLDER) / WEIGHTS, state), "checksum"),
    "a whole other state": (
        lambda state: (shutil.rmtree(state), shutil.copytree(state.with_name(OLDER), state)), "at step 2"
    ),
    "empty folder": (lambda state: (shutil.rmtree(state), state.mkdir()), "no manifest"),
    "a file": (lambda state: (shutil.rmtree(state), state.write_text("x")), "is not a folder"),
    "a pipe": (lambda state: replace_with_pipe(state / WEIGHTS), "not a regular file"),
    "manifest a pipe": (lambda state: replace_with_pipe(state / "manifest.json"), "manifest"),
    "manifest endless": (lambda state: replace_with_zeros(state / "manifest.json"), "manifest"),
    "manifest deep": (lambda state: deep(state / "manifest.json"), "manifest"),
    "manifest large": (lambda state: (state / "manifest.json").write_text(" " * 2_000_000), "manifest"),
    "manifest no JSON": (lambda state: (state / "manifest.json").write_text("{"), "manifest"),
    "manifest a list": (lambda state: (state / "manifest.json").write_text("[]"), "manifest"),
    "manifest of nothing": (lambda state: (state / "manifest.json").write_text("{}"), "manifest"),
    "manifest, wrong entries": (
        lambda state: (state / "manifest.json").write_text(
            json.dumps({"format": 1, "files": dict.fromkeys(p.name for p in state.iterdir() if p.stem != "manifest")})
        ), "manifest",
    ),
    "manifest, endless words": (
        lambda state: (state / "manifest.json").write_text(json.dumps({"format": 1, "files": {
            path.name: ["\x1b[2J" * 5000, "a"] for path in state.iterdir() if path.name != "manifest.json"
        }})), "instead of",
    ),
    "manifest, a path": (
        lambda state: (state / "manifest.json").write_text('{"format": 1, "files": {"../x": [1, "a"]}}'), "is missing"
    ),
    "progress deep": (lambda state: (deep(state / "progress.json"), sign(state)), "progress"),
    "progress text": (lambda state: progress(state, '{"step": "4", "averaged_steps": 4}'), "progress"),
    "progress negative": (lambda state: progress(state, '{"step": 4, "averaged_steps": -1}'), "progress"),
    "progress of another step": (lambda state: progress(state, '{"step": 9, "averaged_steps": 4}'), "at step 9"),
    "header deep": (deep_header, "damaged"),
    "junk": (lambda state: ((state / WEIGHTS).write_bytes(b"x" * 500), sign(state)), "damaged"),
    "weights of another shape": (lambda state: other_shape(state, "weights", BIAS), "weights"),
    "average of another shape": (lambda state: other_shape(state, "average", BIAS), "average"),
    "optimizer of another shape": (
        lambda state: other_shape(state, "optimizer", f"exp_avg/{BIAS}"), "optimizer"
    ),
    "an unknown optimizer": (lambda state: other_shape(state, "optimizer", "nonsense/a"), "optimizer"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_named_and_the_one_before_it_used(
    damage: str, run: Path, expected: dict, caplog: pytest.LogCaptureFixture
) -> None:
    do, words = DAMAGES[damage]
    do(run / "states" / NEWEST)
    assert find_state(run, expected) == run / "states" / OLDER
    (warning,) = caplog.messages
    assert NEWEST in warning and OLDER in warning and "\n" not in warning and len(warning) < 1500
    assert re.search(words, warning), warning


PLACES = ("custom_checkpoint_0.pkl", "optimizer.bin", "random_states_0.pkl", "scheduler.bin", "pytorch_model.bin",
          WEIGHTS, AVERAGE, OPTIMIZER, "manifest.json", "progress.json")  # fmt: skip


@pytest.mark.parametrize("how", ["torch.save", "pickle", "pickle, listed"])
@pytest.mark.parametrize("place", PLACES)
def test_no_pickle_in_a_state_is_opened(place: str, how: str, run: Path, expected: dict, tmp_path: Path) -> None:
    flag = tmp_path / "PWNED"
    state = run / "states" / NEWEST
    if how == "torch.save":
        torch.save({"a": Bomb(flag)}, state / place)
    else:
        (state / place).write_bytes(pickle.dumps(Bomb(flag)))
    if "listed" in how and place != "manifest.json":
        sign(state)
    assert find_state(run, expected) == run / "states" / OLDER
    assert not flag.exists()


def test_a_run_goes_on_from_the_state_before_a_damaged_one(
    foundation: Path, run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flag = tmp_path / "PWNED"
    torch.save({"a": Bomb(flag)}, run / "states" / NEWEST / "custom_checkpoint_0.pkl")
    with caplog.at_level(logging.INFO):
        resume(foundation, run)
    assert "resuming at step 2" in caplog.text and "custom_checkpoint_0.pkl' does not belong" in caplog.text
    assert saved_states(run)[-1].name == "00000005"
    assert not flag.exists()


def test_states_of_pickles_alone_are_refused(foundation: Path, run: Path, tmp_path: Path) -> None:
    """What accelerate wrote for earlier versions."""
    flag = tmp_path / "PWNED"
    for state in saved_states(run):
        shutil.rmtree(state)
        state.mkdir()
        (state / "progress.json").write_text(json.dumps({"step": int(state.name)}))
        for name in ("custom_checkpoint_0.pkl", "optimizer.bin", "random_states_0.pkl"):
            torch.save({"a": Bomb(flag)}, state / name)
    with pytest.raises(InputError, match="older version wrote it as pickles.*start over in another output"):
        resume(foundation, run)
    assert not flag.exists()


def test_where_no_state_is_whole_one_sentence_says_so(foundation: Path, run: Path) -> None:
    for state in saved_states(run):
        flip(state / WEIGHTS)
    with pytest.raises(InputError, match=rf"No training state .*{NEWEST}.*{OLDER}.*start over") as caught:
        resume(foundation, run)
    assert "\n" not in str(caught.value)


def test_states_of_another_config_are_refused(foundation: Path, run: Path) -> None:
    with pytest.raises(InputError, match="this config does not train"):
        resume(foundation, run, train=["queries", "lora"])
    with pytest.raises(InputError, match="average"):
        resume(foundation, run, average=0.0)
    with pytest.raises(InputError, match="this config's optimizer does not keep"):
        resume(foundation, run, optimizer="adafactor")


def test_a_state_beyond_the_last_step_is_refused(foundation: Path, run: Path) -> None:
    """Its model would be exported as one of fewer steps."""
    with pytest.raises(InputError, match=rf"{NEWEST}' is beyond this config's steps, 3; raise steps"):
        train(read_editing(foundation, run, steps=3, **SETTINGS), resume=True)
    assert not (run / "model").exists()


def test_two_runs_do_not_share_an_output(foundation: Path, run: Path) -> None:
    with only_run(run), pytest.raises(InputError, match="another run is writing there"):
        resume(foundation, run)
    resume(foundation, run)


def test_the_current_folder_is_an_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    with only_run(Path()), pytest.raises(InputError, match="another run is writing there"), only_run(tmp_path / "run"):
        pass
    assert not list(Path().iterdir())


def test_an_old_state_that_cannot_be_deleted_is_told(foundation: Path, run: Path, monkeypatch, said) -> None:
    def in_use(path: Path, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            raise PermissionError(13, "in use")

    monkeypatch.setattr(states.shutil, "rmtree", in_use)
    resume(foundation, run)
    assert "cannot be deleted (in use)" in said.text and (run / "states" / "00000005").is_dir()


def test_what_a_killed_run_was_writing_goes(foundation: Path, run: Path) -> None:
    left = run / "states" / ".00000006.partial"
    left.mkdir()
    (left / WEIGHTS).write_bytes(b"x")
    resume(foundation, run)
    assert [path.name for path in sorted((run / "states").iterdir())] == [NEWEST, "00000005"]


def test_what_another_program_left_among_the_states_stays(foundation: Path, run: Path, tmp_path: Path) -> None:
    states = run / "states"
    (states / "1").mkdir()
    (states / "1" / "notes.txt").write_text("mine")
    (states / "0").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    shutil.copytree(states / OLDER, tmp_path / "elsewhere" / "state")
    (states / "00000001").symlink_to(tmp_path / "elsewhere" / "state")
    resume(foundation, run)
    kept = {path.name for path in states.iterdir()}
    assert kept == {"1", "0", "00000001", NEWEST, "00000005"}
    assert (states / "1" / "notes.txt").exists() and (tmp_path / "elsewhere" / "state" / "manifest.json").exists()


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """No file may grow beyond `limit` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("limit", [0, 200, 30_000])
def test_a_full_disk_leaves_no_half_state(limit: int, run: Path) -> None:
    from accelerate import Accelerator

    snapshot = replace(read_state(run / "states" / NEWEST), step=5)
    with full_disk(limit), pytest.raises(InputError, match="state .*could not be written.*free up space") as caught:
        write_state(run, snapshot, Accelerator(cpu=True))
    assert "\n" not in str(caught.value)
    assert [path.name for path in sorted((run / "states").iterdir())] == [OLDER, NEWEST]


def test_a_run_on_a_full_disk_can_be_resumed(foundation: Path, run: Path) -> None:
    with full_disk(30_000), pytest.raises(InputError, match="state .*could not be written.*free up space"):
        resume(foundation, run)
    resume(foundation, run)
    assert saved_states(run)[-1].name == "00000005"


@pytest.mark.parametrize("frames", ["1", "5"])
def test_world_on_a_full_disk_leaves_nothing(frames: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with full_disk(500):
        code = cli.main(["world", "-o", str(tmp_path / "pairs"), "--count", "3", "--frames", frames])
    assert code == 2
    assert "could not be written (File too large)" in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_world_into_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for name in ("a", "a/c", "x\0y", "n" * 300):
        with pytest.raises(InputError, match="name a new folder"):
            write_pairs(tmp_path / name, count=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.slow
def test_twenty_kills_end_where_the_uninterrupted_run_does(foundation: Path, tmp_path: Path) -> None:
    def config(name: str, steps: int) -> Path:
        plain = editing_config(foundation, tmp_path / name, steps=steps, save_every=1, decay_from=1.0, average=0.9)
        return write_config(tmp_path / f"{name}.yaml", **plain)

    draw = random.Random(0)
    step = 0
    for _ in range(20):
        process = start_training(config("killed", 10_000), "--resume")
        wait_for_state(tmp_path / "killed", process, newer_than=step)
        time.sleep(draw.random() / 5)  # anywhere in a step, or in the writing of a state
        process.send_signal(signal.SIGKILL)
        process.wait()
        newest = int(saved_states(tmp_path / "killed")[-1].name)
        assert newest > step
        step = newest
    assert start_training(config("killed", step + 2), "--resume").wait() == 0
    assert start_training(config("whole", step + 2)).wait() == 0
    assert_same(weights(tmp_path / "whole/model"), weights(tmp_path / "killed/model"))
