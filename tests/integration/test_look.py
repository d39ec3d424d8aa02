"""The recipe's look at a stage: a running one as its newest state has it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from instructx_core.errors import InputError
from instructx_core.images import read_pixels
from instructx_core.training.stages import train
from recipes.tiny import look
from support.places import ROOT
from support.training_runs import assert_same, read_editing, weights, write_config


def test_a_running_stage_is_its_newest_state(foundation: Path, tmp_path: Path) -> None:
    stage = read_editing(foundation, tmp_path / "stage", reading_weight=0.1, average=0.9, steps=3, save_every=1)
    config = tmp_path / "stage.yaml"
    with pytest.raises(InputError, match="has saved no state yet; wait for step 1"):
        look.write_running(config, tmp_path / "early")
    model = train(stage)
    look.write_running(config, tmp_path / "running")
    assert_same(weights(tmp_path / "running"), weights(model))


@pytest.mark.parametrize("ending", ["yaml", "yml"])
def test_a_config_is_known_by_its_ending(ending: str, tmp_path: Path, capsys) -> None:
    stage = yaml.safe_load((ROOT / "recipes/tiny/04-small.yaml").read_text()) | {"output": str(tmp_path / "stage")}
    config = write_config(tmp_path / f"stage.{ending}", **stage)
    assert look.main([str(config), str(tmp_path / "sheet.png")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"stage.{ending}' has saved no state yet" in line


@pytest.mark.parametrize(("output", "words"), [("no-folder/sheet.png", "no-folder"), ("sheet.txt", "not a picture")])
def test_a_sheet_that_cannot_be_written_is_told_first(output: str, words: str, tmp_path: Path, capsys) -> None:
    assert look.main([str(tmp_path / "no-model"), str(tmp_path / output)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_a_count_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        look.main([str(tmp_path / "no-model"), str(tmp_path / "sheet.png"), "--count", "0"])


def test_numbers_and_a_sheet(foundation: Path, tmp_path: Path, capsys) -> None:
    asked = [str(foundation / "generator/model"), str(tmp_path / "sheet.png"), "--kinds", "add", "reference_swap"]
    assert look.main([*asked, "--size", "32", "--count", "1", "--rich"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["add", "reference_swap"]
    assert read_pixels(tmp_path / "sheet.png").shape[:2] == (2 * 3 * 32, look.SHOWN * 32)
