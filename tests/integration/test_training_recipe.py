"""What a step is: optimizers by name, noise levels, its kind, dropped sources; and what a person sees of a run."""

from __future__ import annotations

import math
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from instructx_core import InputError, cli
from instructx_core.errors import TrainingError, TrainingStopped
from instructx_core.training import precision
from instructx_core.training.config import DataConfig, NoiseConfig, TrainConfig, read_train_config
from instructx_core.training.data.encoding import Encoded
from instructx_core.training.editing import EditingTask, noise_levels
from instructx_core.training.optimizers import make_optimizers, parameter_groups
from instructx_core.training.stages import train
from instructx_core.training.states import saved_states
from instructx_core.training.steps import batch_generator, is_video_step, micro_batches
from instructx_core.training.trainer import Trainer
from support.training_runs import (
    FIRST,
    SMALL_DATA,
    assert_same,
    editing_config,
    read_editing,
    scalars,
    weights,
    write_config,
)


@pytest.fixture(scope="module")
def task(foundation: Path, tmp_path_factory: pytest.TempPathFactory) -> EditingTask:
    """An editing stage; read-only."""
    return EditingTask(read_editing(foundation, tmp_path_factory.mktemp("task") / "run"))


def draw(task: EditingTask, is_video: bool = False) -> Any:
    return task.batch(batch_generator(0, 0, 0, 0), is_video)


# --- optimizers


def test_muon_takes_the_matrices_of_layers_and_adamw_the_rest(task: EditingTask) -> None:
    config = replace(task.config, optimizer="muon", muon_rate=3e-3, guidance_rate=0.5)
    groups = parameter_groups(task.module, config)
    names = {parameter: name for name, parameter in task.module.named_parameters()}
    assert [(group.muon, group.rate) for group in groups] == [(True, 3e-3), (False, 5e-4), (False, 1e-3)]
    matrices = {names[parameter] for parameter in groups[0].parameters}
    assert matrices == {
        name
        for name, parameter in task.module.named_parameters()
        if name.startswith("denoiser.transformer.blocks.") and parameter.ndim == 2
    }
    assert any("lora_" in names[parameter] for parameter in groups[1].parameters)
    trained = [name for name, parameter in task.module.named_parameters() if parameter.requires_grad]
    assert sorted(names[parameter] for group in groups for parameter in group.parameters) == sorted(trained)
    muon, adamw = make_optimizers(groups, config)
    assert isinstance(muon, torch.optim.Muon) and muon.defaults["adjust_lr_fn"] == "match_rms_adamw"
    assert isinstance(adamw, torch.optim.AdamW) and adamw.defaults["betas"] == (0.9, 0.999)


def test_muon_without_a_matrix_is_refused(task: EditingTask) -> None:
    with pytest.raises(InputError, match="muon is for layers' weight matrices"):
        parameter_groups(torch.nn.Linear(2, 2), replace(task.config, optimizer="muon"))


@pytest.mark.parametrize("optimizer", ["muon", pytest.param("adafactor", marks=pytest.mark.slow)])
def test_every_optimizer_resumes_exactly(optimizer: str, foundation: Path, tmp_path: Path) -> None:
    def config(name: str, steps: int) -> TrainConfig:
        return read_editing(foundation, tmp_path / name, steps=steps, optimizer=optimizer, decay_from=1.0, average=0.9)

    whole = weights(train(config("whole", 4)))
    train(config("parts", 2))
    assert_same(whole, weights(train(config("parts", 4), resume=True)))
    before = weights(foundation / "generator/model")
    name = "blocks.0.ffn.net.2.weight"
    assert not torch.equal(whole[name], before[name])


# --- noise levels


def test_uniform_noise_levels_are_shifted_as_the_sampler_s_are() -> None:
    levels = noise_levels(NoiseConfig(), 5.0, 20_000, torch.Generator().manual_seed(0)).sort().values
    for u in (0.1, 0.5, 0.9):
        assert levels[int(u * 20_000)].item() == pytest.approx(5 * u / (1 + 4 * u), abs=0.01)


def test_logit_normal_noise_levels() -> None:
    config = NoiseConfig("logit_normal", mean=2.5, std=1.5)
    levels = noise_levels(config, 5.0, 20_000, torch.Generator().manual_seed(0))
    assert torch.logit(levels.double()).mean().item() == pytest.approx(2.5, abs=0.05)
    assert torch.logit(levels.double()).std().item() == pytest.approx(1.5, abs=0.05)
    wanted = torch.sigmoid(1.5 * torch.randn(5, generator=torch.Generator().manual_seed(1)) + 2.5)
    assert torch.equal(noise_levels(config, 1.0, 5, torch.Generator().manual_seed(1)), wanted)


def test_the_shift_is_the_model_s_unless_the_config_says_another(task: EditingTask) -> None:
    assert task.module.shift == task.components.config.sampling.shift == 5.0


# --- the kind of a step


def test_the_kind_of_a_step_is_the_same_for_all_and_has_the_wanted_share() -> None:
    kinds = [is_video_step(7, step, 0.6) for step in range(2000)]
    assert sum(kinds) / 2000 == pytest.approx(0.6, abs=0.04)
    assert kinds == [is_video_step(7, step, 0.6) for step in range(2000)]
    # its stream is none of a micro-batch's
    first = [bool(torch.rand((), generator=batch_generator(7, step, 0, 0)) < 0.6) for step in range(2000)]
    assert kinds != first
    assert not any(is_video_step(0, step, 0.0) for step in range(100))
    assert all(is_video_step(0, step, 1.0) for step in range(100))


def test_a_batch_is_of_the_kind_that_was_drawn(task: EditingTask) -> None:
    for is_video in (False, True):
        for process in range(4):
            batch = task.batch(batch_generator(0, 0, 0, process), is_video)
            assert (batch.target.shape[2] > 1) == is_video


def test_a_step_is_128_images_or_32_videos_on_any_number_of_processes() -> None:
    data = DataConfig(image_batch=4, video_batch=1, step_images=128, step_videos=32)
    config = TrainConfig("editing", "x", 1, {"model": "y"}, data=data)
    for processes in (1, 2, 8, 32):
        assert micro_batches(config, False, processes) * processes * 4 == 128
        assert micro_batches(config, True, processes) * processes == 32
    with pytest.raises(InputError, match="data.step_images is 128, which .* 3 processes.*make it a multiple of 12"):
        micro_batches(config, False, 3)
    assert micro_batches(replace(config, accumulate=5, data=DataConfig()), True, 3) == 5


def test_micro_batches_add_up_to_the_gradient_of_one_batch(foundation: Path, tmp_path: Path) -> None:
    """Two micro-batches of the same examples train as one of them does."""

    def run(name: str, accumulate: int) -> dict[str, torch.Tensor]:
        config = read_editing(foundation, tmp_path / name, steps=1, accumulate=accumulate)
        task = EditingTask(config)
        batch = draw(task)
        task.batch = lambda generator, is_video: (generator.manual_seed(0), batch)[1]
        return weights(Trainer(config, task).run())

    one, two = run("one", 1), run("two", 2)
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=1e-6, rtol=1e-4)


# --- dropped sources


def test_a_dropped_source_is_zeros_for_the_dit(task: EditingTask) -> None:
    batch = draw(task)
    dropped = replace(batch, sourceless=torch.ones(len(batch), dtype=torch.bool))
    zeros = replace(batch, source=torch.zeros_like(batch.source))
    with torch.no_grad():
        losses = [
            task.module(each, torch.Generator().manual_seed(0))["loss"].item() for each in (batch, dropped, zeros)
        ]
    assert losses[1] == losses[2] != losses[0]


def test_sources_are_dropped_as_often_as_the_config_says(foundation: Path, tmp_path: Path) -> None:
    task = EditingTask(read_editing(foundation, tmp_path / "run", drop_source=0.5, drop_instruction=0.25))
    batches = [task.batch(batch_generator(0, step, 0, 0), False) for step in range(200)]
    sourceless = torch.cat([batch.sourceless for batch in batches]).float().mean().item()
    texts = [text for batch in batches for text in batch.instructions]
    wordless = sum(not text for text in texts) / len(texts)
    assert sourceless == pytest.approx(0.5, abs=0.08)
    assert wordless == pytest.approx(0.25, abs=0.08)


# --- precision


def losses_in(name: str, foundation: Path, folder: Path, steps: int) -> list[float]:
    train(read_editing(foundation, folder, steps=steps, precision=name, optimizer="muon"))
    losses = scalars(folder, "loss")
    assert len(losses) == steps
    return losses


@pytest.mark.slow
def test_bfloat16_trains_on_a_cpu(foundation: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(precision, "is_slow_in_bfloat16", lambda device: False)  # slowly, where it has no AVX-512
    float32, bfloat16 = (losses_in(name, foundation, tmp_path / name, 4) for name in ("no", "bf16"))
    assert bfloat16 == pytest.approx(float32, rel=0.02)
    assert bfloat16 != float32


def test_float32_where_bfloat16_is_slow(foundation: Path, tmp_path: Path, monkeypatch, said) -> None:
    monkeypatch.setattr(precision, "is_slow_in_bfloat16", lambda device: True)
    float32, bfloat16 = (losses_in(name, foundation, tmp_path / name, 1) for name in ("no", "bf16"))
    assert bfloat16 == float32
    [warning] = [record.getMessage() for record in said.records if "bfloat16" in record.getMessage()]
    assert warning == "This processor has no fast bfloat16 (AVX-512 has); training computes in float32 instead."


# --- what a person sees


def test_samples_validation_and_card(foundation: Path, tmp_path: Path, capsys) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    data = {**SMALL_DATA, "images": 20, "videos": 10, "pool": str(tmp_path / "pool")}
    config = read_editing(
        foundation, tmp_path / "run", steps=2, sample_every=2, validate_every=1, validation=6, data=data
    )
    folder = train(config)
    # the bar: steps, the time left, and what was logged
    assert re.search(r"editing: 100%.*2/2 \[\d\d:\d\d<\d\d:\d\d.*loss=.*examples_per_second=", capsys.readouterr().err)
    events = EventAccumulator(str(tmp_path / "run/logs"))
    events.Reload()
    for name in ("loss", "rate", "gradient", "examples_per_second", "validation/images/loss", "validation/videos/loss"):
        assert [math.isfinite(event.value) for event in events.Scalars(name)] == [True, True], name
    assert set(events.Tags()["images"]) == {"samples/images", "samples/clip"}
    assert {path.name for path in (tmp_path / "run/samples").iterdir()} == {"00000002-images.png", "00000002-clip.png"}
    card = (folder / "README.md").read_text()
    for words in ("`editing`, 2 steps", "generator/model", "20 images, 10 videos", "torch 2.", "validation/images/loss",
                  "learning_rate: 0.001"):  # fmt: skip
        assert words in card
    (folder / "README.md").unlink()
    train(config, resume=True)  # nothing is left to train
    assert (folder / "README.md").read_text() == card


def test_each_example_of_a_validation_counts_alike(tmp_path: Path) -> None:
    """Batches of four, four and one example."""

    class Mean(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def forward(self, batch: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
            return {"loss": batch.mean() + self.weight}

    class Stage:
        module = Mean()

        def validation(self) -> Iterator[tuple[str, torch.Tensor]]:
            yield from (("images", values) for values in (torch.zeros(4), torch.zeros(4), torch.full((1,), 9.0)))

    config = TrainConfig("editing", str(tmp_path / "run"), 1, {"model": "x"})
    assert Trainer(config, Stage())._validate() == {"validation/images/loss": 1.0}


def test_examples_held_out_are_never_trained_on(foundation: Path, tmp_path: Path) -> None:
    data = {**SMALL_DATA, "images": 40, "videos": 0, "pool": str(tmp_path / "pool")}
    task = EditingTask(read_editing(foundation, tmp_path / "run", validate_every=1, validation=4, data=data))
    held_out = {name for _, batch in task.validation() for name in batch.names}
    trained = {name for step in range(200) for name in task.batch(batch_generator(0, step, 0, 0), False).names}
    assert 3 <= len(held_out) <= 5 and len(held_out) + len(trained) == 40
    assert not held_out & trained


def test_too_few_examples_to_hold_out(foundation: Path, tmp_path: Path, said) -> None:
    data = {**SMALL_DATA, "images": 9, "videos": 0}
    task = EditingTask(read_editing(foundation, tmp_path / "run", validate_every=1, validation=4, data=data))
    assert list(task.validation()) == []
    assert "validate_every has no effect" in said.text


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_saves_a_state_first(number: int, foundation: Path, tmp_path: Path) -> None:
    config = read_editing(foundation, tmp_path / "run", steps=100, save_every=50, decay_from=1.0)
    task = EditingTask(config)
    drawn = task.batch

    def batch(generator: torch.Generator, is_video: bool) -> Any:
        task.count = getattr(task, "count", 0) + 1
        if task.count == 3:
            os.kill(os.getpid(), number)
        return drawn(generator, is_video)

    task.batch = batch
    before = signal.getsignal(number)
    with pytest.raises(TrainingStopped, match="stopped after step 3, which is saved; continue with --resume") as ended:
        Trainer(config, task).run()
    assert ended.value.signal == number
    assert signal.getsignal(number) is before
    assert [path.name for path in (tmp_path / "run/states").iterdir()] == ["00000003"]
    resumed = train(replace(config, steps=4), resume=True)
    whole = train(read_editing(foundation, tmp_path / "whole", steps=4, decay_from=1.0))
    assert_same(weights(resumed), weights(whole))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_is_one_line_and_an_exit_code(
    number: int, code: int, foundation: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    def stop(*_arguments: object, **_options: object) -> None:
        raise TrainingStopped("stopped after step 3, which is saved; continue with --resume.", number)

    monkeypatch.setattr("instructx_core.training.stages.train", stop)
    path = write_config(tmp_path / "c.yaml", **editing_config(foundation, tmp_path / "run"))
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", str(path)])
    assert ended.value.code == code
    assert capsys.readouterr().err == "instructx: stopped after step 3, which is saved; continue with --resume.\n"


def test_a_loss_that_is_no_number_names_its_examples(foundation: Path, tmp_path: Path) -> None:
    config = read_editing(foundation, tmp_path / "run", steps=2)
    task = EditingTask(config)
    drawn = task.source.draw

    def spoilt(generator: torch.Generator, is_video: bool) -> Encoded:
        examples = drawn(generator, is_video)
        examples.target.fill_(math.nan)
        return examples

    task.source.draw = spoilt
    with pytest.raises(TrainingError, match=r"The loss is nan at step 1 \(examples: '.* of the world'.*--resume"):
        Trainer(config, task).run()
    assert not saved_states(tmp_path / "run")


def test_a_step_that_fails_names_its_examples(foundation: Path, tmp_path: Path) -> None:
    config = read_editing(foundation, tmp_path / "run", steps=2)
    task = EditingTask(config)
    task.module.forward = lambda batch, generator: 1 / 0
    with pytest.raises(TrainingError, match=r"Step 1 failed on its examples \('.* of the world'.*ZeroDivisionError"):
        Trainer(config, task).run()
    (weight, *_) = (weight for weight in task.module.parameters() if weight.requires_grad)
    task.module.forward = lambda batch, generator: {"loss": (0 * weight.sum()).sqrt()}  # finite; its slope is not
    with pytest.raises(TrainingError, match=r"The gradient is nan at step 1 \(examples: '.* of the world'.*--resume"):
        Trainer(config, task).run()


# --- configs


def test_set_changes_a_config(foundation: Path, tmp_path: Path) -> None:
    path = write_config(tmp_path / "c.yaml", **editing_config(foundation, tmp_path / "run"))
    config = read_train_config(path, ["steps=3", "data.image_batch=1", "betas=[0.8, 0.9]", "noise.shift=2.5"])
    assert (config.steps, config.data.image_batch, config.betas, config.noise.shift) == (3, 1, (0.8, 0.9), 2.5)
    assert config.data.video_batch == 1  # the rest of a section stays

    wrong = {"steps": "KEY=VALUE", "=3": "KEY=VALUE", "steps=x": "steps is 'x'", "a.=1": "KEY=V",
             "steps.x=1": "not a section", "x=1": "no field 'x'", "steps=[": "not valid YAML"}  # fmt: skip
    for change, words in wrong.items():
        with pytest.raises(InputError, match=words):
            read_train_config(path, [change])


def test_the_tiny_recipe_keeps_its_noise_and_loss() -> None:
    for name, mean in (("stage2", 2.5), ("stage3", 2.5), ("twin-stage2", 2.5), ("stage0-generator", 2.0)):
        config = read_train_config(FIRST / f"{name}.yaml")
        assert config.noise == NoiseConfig("logit_normal", mean=mean, std=1.5)
        assert config.loss == "data" and config.betas == (0.9, 0.99)
    default = TrainConfig("editing", "x", 1, {"model": "y"})
    assert default.loss == "velocity" and default.noise == NoiseConfig("uniform") and default.learning_rate == 1e-5
