"""`instructx train --check`: counts, bytes, examples and the batch plan, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from instructx_core import cli
from instructx_core.config import ModelConfig
from instructx_core.memory.live import LiveMemory
from instructx_core.training.config import TrainConfig, read_train_config
from instructx_core.training.editing import EditingTask, choose_trained
from instructx_core.training.footprint import MicroBatch, activations, measure_footprint, parts_of, shapes
from instructx_core.training.steps import batch_generator
from support import paper_size
from support.opening import outlined
from support.training_runs import SMALL_DATA, write_config

GIB = 2**30


def plain(bundled: Path, output: Path, **changes: Any) -> dict[str, Any]:
    data = {**SMALL_DATA, "step_images": 16}
    return {"task": "editing", "output": str(output), "steps": 5, "start": {"model": str(bundled)}, "data": data,
            **changes}  # fmt: skip


def read(bundled: Path, output: Path, **changes: Any) -> TrainConfig:
    return read_train_config(write_config(output.with_suffix(".yaml"), **plain(bundled, output, **changes)))


def test_a_run_is_described_and_nothing_is_written(bundled: Path, tmp_path: Path, capsys) -> None:
    config = write_config(tmp_path / "c.yaml", **plain(bundled, tmp_path / "run", train=["queries", "connector"]))
    assert cli.main(["train", str(config), "--check", "--processes", "4"]) == 0
    said = capsys.readouterr().out
    numbers = {line.split()[0]: [word.replace(",", "") for word in line.split()[1:]] for line in said.splitlines()
               if line.count(",") and line.split()[0] in ("queries", "lora", "connector", "transformer")}  # fmt: skip
    assert numbers["lora"][1] == numbers["transformer"][1] == "0"
    assert numbers["queries"] == ["3072", "3072"] and numbers["connector"] == ["680096", "680096"]
    assert "4 processes x 2 micro-batches x 2 of at most 32 x 32 = 16 examples (asked for: 16)" in said
    assert said.count("of the world: 32 x 32") == 9  # all that there are: five images of six, four clips
    assert not (tmp_path / "run").exists()


def test_a_stage_that_trains_nothing_is_refused(bundled: Path, tmp_path: Path, capsys) -> None:
    file = write_config(tmp_path / "c.yaml", **plain(bundled, tmp_path / "run", train=["reference_embedding"]))
    assert cli.main(["train", str(file), "--check"]) == 2
    assert "the model has no reference_embedding, so nothing would be trained" in capsys.readouterr().err


def test_sizes_of_a_table_are_areas(bundled: Path, tmp_path: Path, capsys) -> None:
    Image.new("RGB", (34, 34)).save(tmp_path / "a.png")
    (tmp_path / "pairs.csv").write_text("source,target,instruction\na.png,a.png,make it blue\n")
    data = {**SMALL_DATA, "table": str(tmp_path / "pairs.csv"), "sizes": [[34, 34]], "video_probability": 0.0}
    config = write_config(tmp_path / "c.yaml", **plain(bundled, tmp_path / "run", data=data))
    assert cli.main(["train", str(config), "--check"]) == 0
    assert "line 2 of 'pairs.csv': 32 x 32" in capsys.readouterr().out


def test_an_area_below_one_patch_is_one_patch(bundled: Path, tmp_path: Path) -> None:
    """As a table's rows are read: a model of stride 32 takes `data.sizes: [[16, 16]]`."""
    components = outlined(bundled, torch.float32)
    config = read(bundled, tmp_path / "run", train=["connector"])
    choose_trained(components, config)
    side = components.codec.stride * components.denoiser.patch
    small, whole = (MicroBatch(2, 1, length, length) for length in (side // 2, side))
    assert activations(components, config, small) == activations(components, config, whole)


def test_bytes_are_those_of_the_parameters(bundled: Path, tmp_path: Path) -> None:
    components = outlined(bundled, torch.float32)
    config = read(bundled, tmp_path / "run", average=0.9, train=["connector", "transformer"])
    choose_trained(components, config)
    trained = sum(p.numel() for part in ("connector", "transformer") for p in parts_of(components)[part])
    found = measure_footprint(components, config)
    assert found.weights == 4 * sum(p.numel() for held in parts_of(components).values() for p in held)
    assert (found.gradients, found.optimizer, found.average) == (4 * trained, 8 * trained, 4 * trained)
    muon = measure_footprint(components, replace(config, optimizer="muon")).optimizer
    assert measure_footprint(components, replace(config, optimizer="adafactor")).optimizer < muon < found.optimizer
    held = found.weights + found.gradients + found.optimizer + found.average
    assert found.total(4) == held // 4 + max(found.activations.values())
    assert all(value.is_meta for part in parts_of(components).values() for value in part)


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_those_of_a_real_step(checkpointing: bool, bundled: Path, tmp_path: Path) -> None:
    data = {**SMALL_DATA, "videos": 0, "video_probability": 0.0, "image_batch": 6, "sizes": [[64, 64]],
            "groups": {"recolor": 1.0}}  # fmt: skip
    config = read(bundled, tmp_path / "run", data=data, checkpointing=checkpointing)
    task = EditingTask(config)
    (kind, shape), = shapes(config).items()  # fmt: skip
    batch, generator = task.batch(batch_generator(0, 0, 0, 0), False), batch_generator(0, 0, 0, 0)
    task.module.train()
    task.module(batch, generator)["loss"].backward()
    gradients = torch.nn.ParameterList(
        torch.nn.Parameter(p.grad, False) for p in task.module.parameters() if p.grad is not None
    )
    with LiveMemory(task.module, gradients) as live:
        task.module(batch, generator)["loss"].backward()
    components = outlined(bundled, torch.float32)
    choose_trained(components, config)
    assert kind == "images" and activations(components, config, shape) == pytest.approx(live.peak, rel=0.25)


def test_stages_that_make_parts_and_bad_examples_are_refused(bundled: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "pairs.csv").write_text("source,target,instruction\na.png,b.png,make it blue\n")
    table = {**SMALL_DATA, "table": str(tmp_path / "pairs.csv")}
    cases = [
        ({"task": "autoencoder", "start": {}, "model": {"z_dim": 4}}, "creates new parts"),
        ({"data": table}, "there is no file"),
        ({"data": {**SMALL_DATA, "step_images": 5}}, "cannot be split evenly"),
        ({"start": {"model": str(tmp_path / "none")}}, "there is no model"),
        ({"data": {**SMALL_DATA, "sizes": [[34, 34]]}}, "34"),
    ]
    for changes, words in cases:
        path = write_config(tmp_path / "c.yaml", **plain(bundled, tmp_path / "run", **changes))
        assert cli.main(["train", str(path), "--check"]) == 2
        said = capsys.readouterr().err
        assert words in said.splitlines()[-1], said


@pytest.mark.slow
def test_the_paper_s_stage_two_at_its_size(tmp_path: Path) -> None:
    from support.training_runs import CONFIGS

    config, components = read_train_config(CONFIGS / "paper" / "stage2.yaml"), paper_size.components(ModelConfig())
    choose_trained(components, config)
    parts = {name: sum(p.numel() for p in held) for name, held in parts_of(components).items()}
    assert parts["lora"] == pytest.approx(0.6e9, rel=0.01) and parts["transformer"] == pytest.approx(14.29e9, rel=0.01)
    found = measure_footprint(components, config)
    print({kind: round(size / GIB, 2) for kind, size in found.activations.items()}, found.total(8) / GIB)
    assert found.activations["videos"] > found.activations["images"] > GIB
    assert 229e9 < found.weights + found.gradients + found.optimizer < 320e9
    assert found.total(8) < 141e9 < found.total()  # eight H200 hold it, one does not
