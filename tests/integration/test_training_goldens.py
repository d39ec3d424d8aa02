"""Twenty steps of two recipes have the losses that were recorded, and the paper's configs run on tiny parts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from instructx_core.training.config import NoiseConfig, TrainConfig, read_train_config
from instructx_core.training.stages import train
from instructx_core.training.steps import micro_batches
from support import golden_runs, training_goldens
from support.training_runs import CONFIGS, scalars, weights, write_config

TOLERANCE = 2e-3  # of a loss; threads and versions round in other ways, and twenty steps amplify it


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "tiny" else ()) for name in training_goldens.RUNS]
)
def test_losses_are_the_recorded_ones(name: str, tmp_path: Path) -> None:
    recorded = json.loads(training_goldens.FILE.read_text())["losses"][name]
    assert len(recorded) == training_goldens.STEPS
    assert training_goldens.run(name, tmp_path) == pytest.approx(recorded, rel=TOLERANCE)


def test_the_paper_s_numbers() -> None:
    """Sections 3.3 and 4.1."""
    guidance = {"queries", "lora", "connector"}
    stages = [read_train_config(CONFIGS / f"paper/stage{number}.yaml") for number in (1, 2, 3)]
    assert [stage.steps for stage in stages] == [20_000, 20_000, 5_000]
    assert [set(stage.train) for stage in stages] == [guidance, guidance | {"transformer"}, guidance | {"transformer"}]
    assert [stage.use_source for stage in stages] == [False, True, True]
    assert [stage.data.video_probability for stage in stages] == [0.0, 0.6, 0.6]
    for stage in stages:
        assert stage.loss == "velocity" and stage.noise == NoiseConfig("uniform")
        assert (stage.learning_rate, stage.warmup, stage.decay_from, stage.optimizer) == (1e-5, 0, 1.0, "adamw")
        assert stage.precision == "bf16" and stage.checkpointing
        assert micro_batches(stage, False, 8) * 8 * stage.data.image_batch == 128
        assert type(stage) is TrainConfig  # without the fields that only a recipe has
    for stage in stages[1:]:
        assert micro_batches(stage, True, 8) * 8 * stage.data.video_batch == 32


@pytest.mark.slow
def test_the_paper_s_stages_run_on_tiny_parts(tmp_path: Path) -> None:
    model = golden_runs.make_random("source-latent", tmp_path / "start")
    for number in (1, 2, 3):
        plain = yaml.safe_load((CONFIGS / f"paper/stage{number}.yaml").read_text())
        plain["data"] |= {"table": None, "images": 10, "videos": 10, "sizes": [[48, 48]], "lengths": [5],
                          "pool": str(tmp_path / "pool"), "image_batch": 2, "step_images": 4}  # fmt: skip
        if number > 1:
            plain["data"] |= {"step_videos": 2}
        plain |= {"output": str(tmp_path / f"stage{number}"), "start": {"model": str(model)}, "steps": 2}
        plain |= {"log_every": 1, "validate_every": 2, "sample_every": 2, "learning_rate": 1e-3}
        after = train(read_train_config(write_config(tmp_path / "c.yaml", **plain)))
        old, new = weights(model), weights(after)
        changed = {
            "transformer" if not name.startswith(("queries", "lora", "connector")) else name.split(".")[0]
            for name in old
            if not torch.equal(old[name], new[name])
        }
        assert changed == set(plain["train"])
        assert len(scalars(tmp_path / f"stage{number}", "loss")) == 2
        model = after
