"""Training, at sizes where a step takes milliseconds: every stage runs, resumes exactly, and survives kill -9."""

from __future__ import annotations

import csv
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from instructx_core import Editor, InputError
from instructx_core.context import Context
from instructx_core.families.instructx.folder import BUNDLED, save_checkpoint
from instructx_core.families.tiny.prediction import AffinePrediction, ChangePrediction
from instructx_core.training.config import TrainConfig, read_train_config
from instructx_core.training.optimizers import parameter_groups, rate_share
from instructx_core.training.stages import train
from instructx_core.training.states import saved_states
from instructx_core.training.steps import batch_generator
from instructx_core.training.tasks import make_task
from recipes.tiny.editing import with_affine_prediction, with_deadband, with_source_waves
from support.opening import config_of, load
from support.training_runs import (
    FIRST,
    assert_same,
    editing_config,
    start_training,
    train_on_two,
    wait_for_state,
    weights,
    write_config,
)


def test_shipped_configs_are_valid() -> None:
    names = {path.stem for path in FIRST.glob("*.yaml")}
    assert {"stage0-autoencoder", "stage0-language", "stage0-generator", "stage1", "stage2", "stage3"} <= names
    for path in FIRST.glob("*.yaml"):
        assert read_train_config(path).steps > 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"task": "painting"}, "task"),
        ({"steps": 0}, "steps"),
        ({"nonsense": 1}, "nonsense"),
        ({"train": ["vae"]}, "train"),
        ({"loss": "l1"}, "loss"),
        ({"start": {}}, "start"),
    ],
)
def test_wrong_configs_say_what_is_wrong(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    plain = {"task": "editing", "output": "x", "steps": 1, "start": {"model": "y"}, **change}
    with pytest.raises(InputError, match=words):
        read_train_config(write_config(tmp_path / "config.yaml", **plain))


def test_rate_warms_up_and_falls() -> None:
    config = TrainConfig("editing", "x", 100, {"model": "y"}, warmup=10, decay_from=0.5)
    rates = [rate_share(config, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:51] == pytest.approx([1.0] * 42)
    assert rates[99] == pytest.approx(1 - 0.98 * 49 / 50)


def test_every_micro_batch_has_its_own_randomness() -> None:
    draws = {
        tuple(torch.randn(2, generator=batch_generator(seed, step, micro, process)).tolist())
        for seed in (0, 1) for step in (0, 1) for micro in (0, 1) for process in (0, 1)
    }  # fmt: skip
    assert len(draws) == 16


def test_stage_zero_gives_a_model_that_edits(foundation: Path) -> None:
    editor = Editor.from_pretrained(foundation / "generator/model")
    result = editor.edit(torch.rand(40, 50, 3), "make it grayscale", steps=1)
    assert result.frames.shape == (1, 40, 50, 3)
    assert editor.config.held_out_from_video == ("remove", "grayscale")


def test_stages_train_what_they_name(foundation: Path, tmp_path: Path) -> None:
    before = weights(foundation / "generator/model")
    config = editing_config(
        foundation, tmp_path / "run", train=["queries", "lora", "connector"], use_source=False, steps=2, sample_every=2
    )
    after = weights(train(read_train_config(write_config(tmp_path / "c.yaml", **config))))
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"queries", "lora", "connector"}
    assert (tmp_path / "run/samples/00000002-images.png").is_file()


@pytest.mark.slow
def test_reading_trains_the_queries_and_leaves_the_dit(foundation: Path, tmp_path: Path) -> None:
    plain = editing_config(foundation, tmp_path / "run", task="reading", train=["queries", "lora"], steps=2)
    before = weights(foundation / "generator/model")
    after = weights(train(read_train_config(write_config(tmp_path / "c.yaml", **plain))))
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"queries", "lora"}


def test_balanced_examples_count_alike(foundation: Path, tmp_path: Path) -> None:
    """Leaving every source as it is costs the same for an edit of one object and of the whole picture."""
    plain = editing_config(foundation, tmp_path / "run", balance=1.0)
    task = make_task(read_train_config(write_config(tmp_path / "c.yaml", **plain)))
    small, large = torch.zeros(2, 16, 1, 4, 4)
    small[:, :, :2] = 2.0
    large[:] = 4.0
    change = torch.stack([small, large])
    balance = task.module.balance(torch.ones_like(change), change)
    costs = (balance * change.square()).mean((1, 2, 3, 4))
    torch.testing.assert_close(costs, torch.ones(2), atol=0.1, rtol=0)


@pytest.mark.slow
def test_a_deadband_is_written_into_the_checkpoint(foundation: Path, tmp_path: Path) -> None:
    start = {"vae": str(foundation / "autoencoder/model/vae"), "mllm": str(foundation / "language/model/mllm")}
    model = yaml.safe_load((FIRST / "stage1.yaml").read_text())["model"]
    config = editing_config(foundation, tmp_path / "run", steps=1, deadband=0.25, start=start, model=model)
    folder = train(read_train_config(write_config(tmp_path / "c.yaml", **config)))
    assert config_of(folder).tiny.deadband == 0.25
    assert load(folder).denoiser.prediction == ChangePrediction(0.25)
    plain = editing_config(foundation, tmp_path / "run", deadband=0.25)
    with pytest.raises(InputError, match="deadband needs a model that predicts changes to its source"):
        make_task(read_train_config(write_config(tmp_path / "c.yaml", **plain)))


def test_a_model_is_shown_places_from_a_stage_on(foundation: Path, tmp_path: Path) -> None:
    start = load(foundation / "generator/model")
    shown = with_source_waves(load(foundation / "generator/model"), 3)
    source = torch.randn(1, 16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    before, after = (part.denoiser.conditions(source)[0].tokens for part in (start, shown))
    torch.testing.assert_close(after, before)  # no use of them yet
    assert shown.config.denoiser.source_waves == 3 and with_source_waves(shown, 3) is shown
    with pytest.raises(InputError, match="source_waves is 2, but the model that this stage starts from has 3"):
        with_source_waves(shown, 2)


def test_a_model_predicts_a_gain_from_a_stage_on(tmp_path: Path) -> None:
    before, after = with_deadband(load(BUNDLED), 0.3), with_affine_prediction(with_deadband(load(BUNDLED), 0.3))
    size, context = (1, 16, 1, 8, 8), Context(torch.ones(1, 3, before.config.connector.output_dim))
    source, noisy = (torch.randn(size, generator=torch.Generator().manual_seed(seed)) for seed in range(2))
    wanted, found = (
        part.denoiser(noisy, torch.tensor([0.5]), context, part.denoiser.conditions(source)) for part in (before, after)
    )
    torch.testing.assert_close(found, wanted)
    save_checkpoint(after, tmp_path / "model")
    assert load(tmp_path / "model").denoiser.prediction == AffinePrediction(0.3)


@pytest.mark.slow
def test_the_exported_weights_are_an_average(foundation: Path, tmp_path: Path) -> None:
    def run(name: str, **changes: Any) -> dict[str, torch.Tensor]:
        plain = editing_config(foundation, tmp_path / name, steps=3, **changes)
        return weights(train(read_train_config(write_config(tmp_path / f"{name}.yaml", **plain))))

    name = "proj_out.bias"
    before = weights(foundation / "generator/model")[name]
    last, averaged = run("last")[name], run("averaged", average=0.9)[name]
    assert 0 < (averaged - before).norm() < (last - before).norm()


def test_guidance_has_its_own_rate() -> None:
    module = torch.nn.ModuleDict({"guidance": torch.nn.Linear(1, 1), "denoiser": torch.nn.Linear(1, 1)})
    module["denoiser"].bias.requires_grad_(False)
    config = TrainConfig("editing", "x", 1, {"model": "y"}, learning_rate=0.1, guidance_rate=2.5)
    groups = parameter_groups(module, config)
    assert [(len(group.parameters), group.rate, group.muon) for group in groups] == [(2, 0.25, False), (1, 0.1, False)]


@pytest.mark.slow
def test_resumed_run_ends_where_the_uninterrupted_one_does(foundation: Path, tmp_path: Path) -> None:
    def config(name: str, steps: int) -> Path:
        plain = editing_config(foundation, tmp_path / name, steps=steps, decay_from=1.0, average=0.9)
        return write_config(tmp_path / f"{name}.yaml", **plain)

    # every run on one thread: how many share a sum decides its rounding
    assert start_training(config("whole", 16)).wait() == 0
    # told to go on for long, so that the kill comes in the middle of it
    process = start_training(config("killed", 1000))
    wait_for_state(tmp_path / "killed", process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert int(saved_states(tmp_path / "killed")[-1].name) < 16
    assert start_training(config("killed", 16), "--resume").wait() == 0
    assert_same(weights(tmp_path / "whole/model"), weights(tmp_path / "killed/model"))


def test_a_finished_run_is_not_overwritten(foundation: Path, tmp_path: Path) -> None:
    config = read_train_config(
        write_config(tmp_path / "c.yaml", **editing_config(foundation, tmp_path / "run", steps=2))
    )
    train(config)
    with pytest.raises(InputError, match="already holds a training run"):
        train(config)


@pytest.mark.slow
def test_two_processes_train_one_model(foundation: Path, tmp_path: Path) -> None:
    def config(steps: int) -> Path:
        plain = editing_config(foundation, tmp_path / "run", steps=steps, accumulate=2, average=0.9, decay_from=1.0)
        return write_config(tmp_path / "c.yaml", **plain)

    done = train_on_two(config(2))
    assert done.returncode == 0, done.stderr[-6000:]
    trained = weights(tmp_path / "run/model")
    before = weights(foundation / "generator/model")
    assert any(not torch.equal(trained[name], before[name]) for name in trained)
    assert all(value.isfinite().all() for value in trained.values())
    # each process wrote its share of the state, and one alone goes on from it
    names = {path.name for path in saved_states(tmp_path / "run")[-1].iterdir()}
    kinds = ("weights", "average", "optimizer")
    assert names >= {f"{kind}-{process}-of-2.safetensors" for kind in kinds for process in (1, 2)}
    train(read_train_config(config(3)), resume=True)
    assert [path.name for path in saved_states(tmp_path / "run")] == ["00000002", "00000003"]


def test_table_of_files_is_a_data_set(foundation: Path, tmp_path: Path) -> None:
    from PIL import Image

    for name, colour in (("source", (200, 30, 30)), ("target", (30, 30, 200)), ("reference", (0, 90, 0))):
        Image.new("RGB", (70, 50), colour).save(tmp_path / f"{name}.png")
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["source", "target", "instruction", "reference"])
        writer.writerow(["source.png", "target.png", "make it blue", ""])
        writer.writerow(["source.png", "target.png", "make it like this", "reference.png"])
    config = editing_config(foundation, tmp_path / "run", steps=2)
    config["data"] |= {"table": str(tmp_path / "pairs.csv"), "pool": str(tmp_path / "pool")}
    assert train(read_train_config(write_config(tmp_path / "c.yaml", **config))).is_dir()


def test_pool_of_other_data_is_refused(foundation: Path, tmp_path: Path) -> None:
    config = editing_config(foundation, tmp_path / "run")
    config["data"] |= {"images": 7}
    with pytest.raises(InputError, match="images"):
        train(read_train_config(write_config(tmp_path / "c.yaml", **config)))
