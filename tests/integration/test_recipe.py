"""The recipe of the shipped model: its stages follow from one another, and one command runs them all."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path

import pytest

from instructx_core import Editor, InputError
from instructx_core.config import DenoiserConfig, ModelConfig, Prediction
from instructx_core.training.config import DataConfig, TrainConfig, read_train_config
from instructx_core.world import EVERY_GROUP
from recipes.tiny.autoencoder import draw_pixels
from recipes.tiny.config import TinyTrainConfig
from support.places import ROOT
from support.training_runs import environment

RECIPE = ROOT / "recipes" / "tiny"
SMALL = {
    "steps": "2",
    "sample_every": "0",
    "data.images": "6",
    "data.videos": "4",
    "data.image_batch": "2",
    "data.video_batch": "1",
    "data.sizes": "[[32, 32]]",
    "data.lengths": "[5]",
    "data.groups": "{recolor: 1, tone: 1, outside: 1}",
}


def test_every_stage_starts_from_what_an_earlier_one_makes():
    made = set()
    for path in sorted(RECIPE.glob("*.yaml")):
        config = read_train_config(path)
        assert {Path(start).parts[2] for start in config.start.values()} <= made, path
        assert config.output == f"runs/tiny/{path.stem.partition('-')[2]}"  # as recipes/tiny/train expects
        made.add(Path(config.output).name)
    assert made >= {
        "autoencoder",
        "language",
        "reading",
        "small",
        "clips",
        "sharp",
        "places",
        "affine",
        "fine",
        "whole",
    }


def test_editing_stages_train_every_group_of_the_world():
    for name in (
        "04-small",
        "05-clips",
        "06-sharp",
        "07-places",
        "08-affine",
        "09-fine",
        "13-whole",
        "15-whole-2",
        "17-whole-3",
        "21-whole-4",
        "22-whole-5",
    ):
        config = read_train_config(RECIPE / f"{name}.yaml")
        assert set(config.data.groups) == set(EVERY_GROUP)
        assert config.data.held_out_from_video == ("remove", "grayscale")
        assert (config.drop_instruction, config.drop_source) == (0.1, 0.05)


@pytest.mark.slow
def test_one_command_makes_a_model_from_nothing_and_goes_on_where_it_stopped(tmp_path):
    options = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}

    def run() -> str:
        command = [str(RECIPE / "train"), str(tmp_path), *options]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1200)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    assert run().count("==") == 22
    editor = Editor.from_pretrained(tmp_path / "runs/tiny/whole-5/model")
    assert editor.default_size == (128, 128) and editor.config.keep_source == 0.2
    weights = sum(path.stat().st_size for path in (tmp_path / "runs/tiny/whole-5/model").rglob("*.safetensors"))
    assert weights <= 48e6  # in float32; half of it as shipped, in bfloat16
    assert "==" not in run()


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        (["data.images=0", "data.videos=4"], False),
        (["data.images=1", "data.sizes=[[32, 32], [64, 64]]"], False),
        (["data.images=2", "data.sizes=[[32, 32], [64, 64], [96, 96]]"], True),
        (["data.images=1", "data.sizes=[[32, 32]]"], True),
    ],
)
def test_an_autoencoder_needs_a_picture_of_the_first_size(changes: list[str], fits: bool):
    """As many as `draw_pixels` gives the first bucket: its start and its grids are made of them."""
    expected = nullcontext() if fits else pytest.raises(InputError, match="an autoencoder stage needs pictures")
    with expected:
        config = read_train_config(RECIPE / "01-autoencoder.yaml", changes)
        images, _ = draw_pixels(replace(config, data=replace(config.data, videos=0)))
        assert images[0].shape[2:4] == config.data.sizes[0]


@pytest.mark.parametrize(("stage", "part"), [("01-autoencoder", "vae"), ("02-language", "mllm")])
def test_a_part_s_stage_says_what_it_starts_from(stage: str, part: str):
    said = f"config, {stage[3:]} stages start from a folder under '{part}', or from nothing"
    with pytest.raises(InputError, match=said):
        read_train_config(RECIPE / f"{stage}.yaml", ["start={model: a}"])


def test_the_paper_s_configs_know_no_field_of_the_recipe():
    paper, own = ({field.name for field in fields(kind)} for kind in (TrainConfig, TinyTrainConfig))
    assert own - paper == {"model", "soup", "channel_emphasis", "edited_weight", "balance", "reading_weight",
                           "hearing_weight", "locating_weight", "naming_weight", "deadband", "source_waves",
                           "affine"}  # fmt: skip
    model = {field.name for kind in (ModelConfig, DenoiserConfig) for field in fields(kind)}
    assert not {"tiny", "deadband", "keep_source", "held_out_from_video"} & model
    assert not {"held_out_from_video"} & {field.name for field in fields(DataConfig)}
    assert [member.value for member in Prediction] == ["velocity", "noise", "v"]


@pytest.mark.parametrize(("module", "known"), [("instructx_core", False), ("recipes.tiny", True)])
def test_its_stages_are_run_by_itself(module: str, known: bool, tmp_path: Path):
    command = [sys.executable, "-m", module, "train", str(RECIPE / "04-small.yaml"), "--set", "start.model=nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=300, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    needle = "there is no model folder 'nowhere'" if known else "task is 'tiny-editing'; give editing .*recipes.tiny"
    assert re.search(needle, done.stderr), done.stderr
