"""A run that dies ends, once resumed, where one that never died does: every stage, on a pool and on a table."""

from __future__ import annotations

import csv
import math
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from instructx_core.training.config import read_train_config
from instructx_core.training.stages import train
from instructx_core.training.states import saved_states
from instructx_core.training.tasks import make_task
from instructx_core.training.trainer import Trainer
from instructx_core.world_folder import write_pairs
from support.training_runs import CONFIGS, FIRST, SMALL_DATA, scalars, start_training, wait_for_state, write_config

RECIPE = CONFIGS.parents[2] / "recipes" / "tiny"
STAGES = {
    "autoencoder": FIRST / "stage0-autoencoder.yaml",
    "language": FIRST / "stage0-language.yaml",
    "generator": FIRST / "stage0-generator.yaml",
    "reading": FIRST / "stage1.yaml",
    "paper 1": CONFIGS / "paper" / "stage1.yaml",
    "paper 2": CONFIGS / "paper" / "stage2.yaml",
    "paper 3": CONFIGS / "paper" / "stage3.yaml",
    "editing": RECIPE / "04-small.yaml",
    "lora": CONFIGS / "lora" / "kiwi-edit.yaml",
}
SHIPPED = sorted(
    path
    for path in (*CONFIGS.rglob("*.yaml"), *RECIPE.rglob("*.yaml"))
    if path.parent.name not in ("accelerate", "variants")
)
RUNS = [(stage, "world") for stage in STAGES] + [(stage, "table") for stage in list(STAGES)[2:]]
QUICK = [("autoencoder", "world"), ("language", "world"), ("reading", "world"), ("generator", "table"),
         ("paper 2", "table"), ("editing", "world")]  # fmt: skip


class Killed(BaseException):
    """Ends a run in the middle of a step, without a last save."""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures and three clips with captions; read-only."""
    folder = tmp_path_factory.mktemp("table")
    rows = []
    for name, count, frames in (("pictures", 6, 1), ("clips", 3, 5)):
        listed = write_pairs(folder / name, count=count, frames=frames, size=32)
        for row in csv.DictReader(listed.open(encoding="utf-8")):
            files = {key: row[key] and f"{name}/{row[key]}" for key in ("source", "target", "reference")}
            rows.append({**files, "instruction": row["instruction"], "caption": f"caption of {row['target']}"})
    with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder / "pairs.csv"


def stage_config(path: Path, data: str, foundation: Path, table: Path, output: Path, **changes: Any) -> Path:
    """A shipped config at sizes where a step takes milliseconds, its rate the same however many steps there are."""
    plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    small = {**SMALL_DATA, "video_probability": plain["data"]["video_probability"] and 0.5}
    if data == "table":
        small |= {"table": str(table)}
    if "step_images" in plain["data"]:
        small |= {"step_images": 4, "step_videos": 2}
    if plain["task"] == "language":
        plain["start"] = {"mllm": str(foundation / "language/model/mllm")}  # a new tokenizer takes seconds
    elif plain["task"] == "generator":
        parts = {"vae": "autoencoder/model/vae", "mllm": "language/model/mllm"}
        plain["start"] = {part: str(foundation / path) for part, path in parts.items()}
        plain["model"]["transformer"] |= {"num_layers": 1, "ffn_dim": 64}
    elif plain["task"] != "autoencoder":
        plain = {key: value for key, value in plain.items() if key != "model"}
        plain["start"] = {"model": str(foundation / "generator/model")}
    plain |= {"output": str(output), "data": small, "log_every": 1, "sample_every": 0, "validate_every": 0}
    return write_config(output.with_suffix(".yaml"), **{**plain, "decay_from": 1.0, "warmup": 0, **changes})


@contextmanager
def one_thread() -> Iterator[None]:
    """How many share a sum decides its rounding."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def assert_same_run(first: Path, second: Path, steps: int) -> None:
    """The same weights, bit for bit, and the same losses in the last `steps`."""
    files = sorted(path.relative_to(first) for path in (first / "model").rglob("*.safetensors"))
    assert files
    for file in files:
        assert (first / file).read_bytes() == (second / file).read_bytes(), file
    assert scalars(first, "loss")[-steps:] == scalars(second, "loss")[-steps:]


@pytest.mark.parametrize(("stage", "data"), QUICK)
def test_a_run_that_dies_between_saves(stage: str, data: str, foundation: Path, table: Path, tmp_path: Path) -> None:
    def config(name: str) -> Any:
        path = stage_config(STAGES[stage], data, foundation, table, tmp_path / name, steps=3, save_every=2)
        return read_train_config(path, [f"data.pool={tmp_path / 'pool'}"] if data == "world" else [])

    train(config("whole"))
    task = make_task(config("died"))
    trainer, drawn = Trainer(config("died"), task), task.batch

    def batch(generator: torch.Generator, is_video: bool) -> Any:
        if trainer.step == 2:
            torch.rand(99)  # what a process has drawn is gone with it
            raise Killed
        return drawn(generator, is_video)

    task.batch = batch
    with pytest.raises(Killed):
        trainer.run()
    assert [path.name for path in saved_states(tmp_path / "died")] == ["00000002"]
    train(config("died"), resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "died", 3)


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "data"), RUNS)
def test_a_run_that_is_killed(stage: str, data: str, foundation: Path, table: Path, tmp_path: Path) -> None:
    def config(name: str, steps: int) -> Path:
        return stage_config(STAGES[stage], data, foundation, table, tmp_path / name, steps=steps, save_every=1)

    process = start_training(config("killed", 10_000))
    wait_for_state(tmp_path / "killed", process)
    time.sleep(random.Random(f"{stage} {data}").random())  # anywhere in a step, or in the writing of a state
    process.send_signal(signal.SIGKILL)
    process.wait()
    steps = int(saved_states(tmp_path / "killed")[-1].name) + 3
    with one_thread():
        train(read_train_config(config("killed", steps)), resume=True)
        train(read_train_config(config("whole", steps)))
    assert_same_run(tmp_path / "whole", tmp_path / "killed", 3)


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in SHIPPED if path not in STAGES.values()], ids=lambda path: path.stem)
def test_the_other_shipped_configs_run(path: Path, foundation: Path, table: Path, tmp_path: Path) -> None:
    config = read_train_config(stage_config(path, "world", foundation, table, tmp_path / "run", steps=2))
    assert (train(config) / "README.md").is_file()
    losses = scalars(tmp_path / "run", "loss")
    assert len(losses) == 2 and all(map(math.isfinite, losses))
