"""FSDP2 over gloo: two processes share a model out, and what they train, save and export is the unsharded run's."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
import yaml

from instructx_core import Editor, InputError, families
from instructx_core.connectors import make_connector
from instructx_core.families.overrides import Overrides
from instructx_core.training import sharding
from instructx_core.training.config import TrainConfig, read_train_config
from instructx_core.training.editing import choose_trained
from instructx_core.training.stages import train
from instructx_core.training.states import saved_states
from instructx_core.weights.files import read_safetensors
from support import golden_runs, public_models
from support.opening import load, outlined
from support.training_runs import (
    CONFIGS,
    SMALL_DATA,
    assert_same,
    editing_config,
    environment,
    scalars,
    train_on_two,
    wait_for_state,
    weights,
    write_config,
)

LAUNCH = CONFIGS / "accelerate" / "fsdp.yaml"
SETTINGS = {"accumulate": 2, "average": 0.9, "decay_from": 1.0, "checkpointing": True, "sample_every": 2,
            "validate_every": 2, "validation": 2}  # fmt: skip


def config(foundation: Path, output: Path, steps: int, **changes: Any) -> Path:
    plain = editing_config(foundation, output, steps=steps, **{**SETTINGS, **changes})
    return write_config(output.with_suffix(".yaml"), **plain)


def start_sharded(path: Path, *options: str) -> subprocess.Popen[str]:
    """As a user starts it, but for the number of processes."""
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(LAUNCH), "--num_processes", "2",
              "--main_process_port", "0"]  # fmt: skip
    command = [*launch, "-m", "instructx_core", "train", str(path), *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=environment(), **pipes)


def train_sharded(path: Path, *options: str) -> str:
    process = start_sharded(path, *options)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said[-6000:]
    return said


def kill(process: subprocess.Popen[str]) -> None:
    """Both processes, which have sessions of their own, and their launcher."""
    launched = psutil.Process(process.pid)
    for one in (*launched.children(recursive=True), launched):
        one.send_signal(signal.SIGKILL)
    process.communicate()


def assert_close(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=1e-5, rtol=1e-5, msg=lambda text, name=name: name + text)


@pytest.mark.slow
def test_a_sharded_run_is_the_unsharded_one_killed_or_not(foundation: Path, tmp_path: Path) -> None:
    done = train_on_two(config(foundation, tmp_path / "plain", 6))
    assert done.returncode == 0, done.stderr[-6000:]
    said = train_sharded(config(foundation, tmp_path / "sharded", 6))
    assert said.count("accelerate ignores FSDP on a CPU") == 1
    plain, sharded = (weights(tmp_path / name / "model") for name in ("plain", "sharded"))
    before = weights(foundation / "generator/model")
    assert any((plain[name] - before[name]).abs().max() > 1e-4 for name in plain)
    assert_close(plain, sharded)
    losses = scalars(tmp_path / "sharded", "loss")
    assert losses == pytest.approx(scalars(tmp_path / "plain", "loss"), abs=1e-5)
    mllm = "model/mllm/model.safetensors"
    assert_same(*(read_safetensors(tmp_path / name / mllm)[0] for name in ("plain", "sharded")))

    process = start_sharded(config(foundation, tmp_path / "killed", 1000))
    wait_for_state(tmp_path / "killed", process)
    kill(process)
    reached = int(saved_states(tmp_path / "killed")[-1].name)
    assert reached < 6
    train_sharded(config(foundation, tmp_path / "killed", 6), "--resume")
    assert_same(sharded, weights(tmp_path / "killed/model"))
    assert scalars(tmp_path / "killed", "loss")[-(6 - reached) :] == losses[reached:]

    result = Editor.from_pretrained(tmp_path / "killed/model").edit(torch.rand(40, 50, 3), "make it red", steps=1)
    assert result.frames.shape == (1, 40, 50, 3) and result.frames.isfinite().all()
    # a sharded state is as any other: one process goes on from it
    train(read_train_config(config(foundation, tmp_path / "killed", 7)), resume=True)


@pytest.mark.slow
def test_muon_sees_whole_matrices(foundation: Path, tmp_path: Path) -> None:
    changes = {"optimizer": "muon", "average": 0.0, "sample_every": 0, "validate_every": 0}
    assert train_on_two(config(foundation, tmp_path / "plain", 2, **changes)).returncode == 0
    train_sharded(config(foundation, tmp_path / "sharded", 2, **changes))
    assert_close(*(weights(tmp_path / name / "model") for name in ("plain", "sharded")))


def test_only_the_main_process_holds_the_weights(foundation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = foundation / "generator/model"
    whole = load(path)
    monkeypatch.setattr(sharding, "process_state", lambda: SimpleNamespace(is_main_process=False))
    other = sharding.load_shared(families.open(path))
    for part in ("guidance", "connector", "denoiser"):
        mine, theirs = (dict(getattr(model, part).named_parameters()) for model in (whole, other))
        assert mine.keys() == theirs.keys()
        assert all(value.is_meta and value.shape == mine[name].shape for name, value in theirs.items())
        assert all(value.dtype == mine[name].dtype for name, value in theirs.items())
    assert torch.equal(other.codec.vae.quant_conv.weight, whole.codec.vae.quant_conv.weight)
    assert other.guidance.tokenizer("make it red") == whole.guidance.tokenizer("make it red")


def test_every_layer_is_sharded_by_itself(bundled: Path, tmp_path: Path) -> None:
    """Of each kind of instruction reader; LLaVA's stages are refused."""
    coinve = public_models.save_coinve(tmp_path / "coinve")
    models = [
        outlined(bundled),
        outlined(public_models.save_bernini(tmp_path / "bernini")),
        outlined(coinve.pop("path"), base=Overrides(**coinve)),
    ]
    for model in models:
        layers = [*model.guidance.layers(), *model.denoiser.transformer.blocks]
        assert {type(layer).__name__ for layer in layers} <= sharding.LAYERS


@pytest.fixture(scope="module")
def referring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a patch embedding of its own for references; read-only."""
    return golden_runs.make_random("reference-embedding", tmp_path_factory.mktemp("models") / "referring")


def test_what_cannot_be_sharded_is_refused(foundation: Path, referring: Path) -> None:
    components = load(foundation / "generator/model")
    sharding.check_shardable(components, "muon")
    with pytest.raises(InputError, match="adafactor needs whole matrices"):
        sharding.check_shardable(components, "adafactor")
    model, connector = load(referring), components.connector
    model.guidance.queries["reference"] = torch.nn.Parameter(torch.zeros(2, 32))
    model.connector.reference = make_connector(connector.config)
    for part in ("queries", "connector", "reference_embedding"):
        choose_trained(model, TrainConfig("editing", "x", 1, {"model": "y"}, train=(part,)))
        with pytest.raises(InputError, match=f"{part} has weights that only references use.*leave {part} out of train"):
            sharding.check_shardable(model, "adamw")
    choose_trained(model, TrainConfig("editing", "x", 1, {"model": "y"}, train=("lora", "transformer")))
    sharding.check_shardable(model, "adamw")  # frozen, all processes have them alike


@pytest.mark.slow
def test_embedded_references_are_sharded_while_they_are_frozen(referring: Path, tmp_path: Path) -> None:
    """Half of the examples have a reference, so that the two processes often differ in it."""

    def path(name: str, *parts: str) -> Path:
        data = {**SMALL_DATA, "images": 12, "videos": 0, "sizes": [[48, 48]], "video_probability": 0.0,
                "groups": {"recolor": 1, "reference_add": 1}, "pool": str(tmp_path / "pool")}  # fmt: skip
        plain = {"task": "editing", "output": str(tmp_path / name), "steps": 4, "start": {"model": str(referring)}}
        plain |= {"train": list(parts), "learning_rate": 1e-3, "log_every": 1, "data": data}
        return write_config(tmp_path / f"{name}.yaml", **plain)

    parts = ("queries", "lora", "connector", "transformer", "source_embedding")
    done = train_on_two(path("plain", *parts))
    assert done.returncode == 0, done.stderr[-6000:]
    train_sharded(path("sharded", *parts))
    assert_close(*(weights(tmp_path / name / "model") for name in ("plain", "sharded")))
    process = start_sharded(path("refused", *parts, "reference_embedding"))
    said, _ = process.communicate(timeout=600)
    assert process.returncode and "leave reference_embedding out of train" in said


def test_the_launch_config_asks_for_fsdp2(monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    launch = load_config_from_file(str(LAUNCH))
    assert launch.distributed_type == "FSDP" and launch.fsdp_config["fsdp_version"] == 2
    assert yaml.safe_load(LAUNCH.read_text())["mixed_precision"] == "no"
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setattr(sharding, "process_state", lambda: SimpleNamespace(num_processes=2))
    assert sharding.is_sharded_run()
    monkeypatch.setattr(sharding, "process_state", lambda: SimpleNamespace(num_processes=1))
    assert not sharding.is_sharded_run()


def test_sharding_over_one_process_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `accelerate launch --config_file fsdp.yaml --num_processes 1` sets it; before a model is looked for."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(InputError, match="this run has one; leave out the --config_file"):
        train(TrainConfig("editing", str(tmp_path / "run"), 1, {"model": str(tmp_path / "none")}))
    assert not (tmp_path / "run").exists()
