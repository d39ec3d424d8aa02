"""Training runs at sizes where a step takes milliseconds, and models to start them from."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import recipes.tiny  # noqa: F401  its stages
from instructx_core.training.config import TrainConfig, read_train_config
from instructx_core.training.stages import train
from instructx_core.training.states import saved_states
from instructx_core.weights.files import read_safetensors
from support.places import ROOT

CONFIGS = ROOT / "instructx_core" / "training" / "configs"
FIRST = ROOT / "recipes" / "tiny" / "first"  # the stages of the first tiny model
SMALL_DATA = {"images": 6, "videos": 4, "image_batch": 2, "video_batch": 1, "sizes": [[32, 32]], "lengths": [5]}


def write_config(path: Path, **values: Any) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="session")
def foundation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE, an MLLM and a whole model, each after two steps of its stage 0; read-only."""
    root = tmp_path_factory.mktemp("foundation")
    autoencoder = yaml.safe_load((FIRST / "stage0-autoencoder.yaml").read_text())
    autoencoder |= {"output": str(root / "autoencoder"), "steps": 2, "sample_every": 0, "data": SMALL_DATA}
    language = yaml.safe_load((FIRST / "stage0-language.yaml").read_text())
    language |= {"output": str(root / "language"), "steps": 2, "data": SMALL_DATA}
    language["model"]["text"] |= {"num_hidden_layers": 1}
    generator = yaml.safe_load((FIRST / "stage0-generator.yaml").read_text())
    start = {"vae": str(root / "autoencoder/model/vae"), "mllm": str(root / "language/model/mllm")}
    data = {**SMALL_DATA, "pool": str(root / "pool")}
    generator |= {"output": str(root / "generator"), "start": start, "steps": 2, "sample_every": 0, "data": data}
    generator["model"]["transformer"] |= {"num_layers": 1, "ffn_dim": 64, "num_attention_heads": 2}
    for name, stage in (("autoencoder", autoencoder), ("language", language), ("generator", generator)):
        train(read_train_config(write_config(root / f"{name}.yaml", **stage)))
    return root


def editing_config(foundation: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """A stage on both kinds of data, six steps long, as a YAML file would say it."""
    data = {**SMALL_DATA, "pool": str(foundation / "pool"), "video_probability": 0.5}
    start = {"model": str(foundation / "generator/model")}
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    is_tiny = (
        set(changes) - known or "vae" in changes.get("start", {}) or "held_out_from_video" in changes.get("data", {})
    )
    basics = {"task": "tiny-editing" if is_tiny else "editing", "output": str(output), "start": start}
    basics |= {"learning_rate": 1e-3, "data": data}
    return {**basics, "steps": 6, "save_every": 2, "log_every": 1, **changes}


def read_editing(foundation: Path, output: Path, **changes: Any) -> TrainConfig:
    """The same, read."""
    path = output.with_name(f"{output.name}.yaml")
    return read_train_config(write_config(path, **editing_config(foundation, output, **changes)))


def weights(model: Path) -> dict[str, torch.Tensor]:
    transformer, _ = read_safetensors(model / "transformer" / "diffusion_pytorch_model.safetensors")
    adapter, _ = read_safetensors(model / "instructx.safetensors")
    return transformer | adapter


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def scalars(output: Path, name: str) -> list[float]:
    """A curve of a run's logs, by step; of a step that was made again after a kill, the last value."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(output / "logs"), purge_orphaned_data=False)
    events.Reload()
    values = {event.step: event.value for event in sorted(events.Scalars(name), key=lambda event: event.wall_time)}
    return [values[step] for step in sorted(values)]


def environment() -> dict[str, str]:
    """Of a training process; on one thread, since how many share a sum decides its rounding."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def start_training(config: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "recipes.tiny", "train", str(config), *options]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment())


def train_on_two(config: Path, *options: str) -> subprocess.CompletedProcess[str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, "-m", "recipes.tiny", "train", str(config), *options]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=300)


def wait_for_state(output: Path, process: subprocess.Popen[bytes], newer_than: int = 0) -> None:
    deadline = time.monotonic() + 120
    while not (found := saved_states(output)) or int(found[-1].name) <= newer_than:
        assert process.poll() is None, "the training ended before it saved a state"
        assert time.monotonic() < deadline, "no state was saved in two minutes"
        time.sleep(0.01)


FILES = {path.stem: path for path in sorted((CONFIGS / "paper" / "variants").glob("*.yaml"))}
