"""Models of the package, by name, wherever a model's path is taken."""

from __future__ import annotations

import pytest
from PIL import Image

from instructx_core import Editor, cli
from instructx_core.errors import CheckpointError
from instructx_core.families import bundled
from instructx_core.families.bundled import located
from instructx_core.memory.describe import describe_cards
from instructx_core.model_info import describe
from instructx_core.training.config import TrainConfig
from instructx_core.training.tasks import start_encoder


def test_the_shipped_model_has_a_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert describe("instructx-tiny") == describe()
    assert Editor.from_pretrained("instructx-tiny").config.name == Editor.from_pretrained().config.name
    assert start_encoder(TrainConfig(task="editing", output="out", steps=1, start={"model": "instructx-tiny"}))
    assert describe_cards("instructx-tiny", None, None)
    assert cli.main(["info", "instructx-tiny"]) == 0
    assert cli.main(["convert", "instructx-tiny", "dit.safetensors"]) == 0
    assert (tmp_path / "dit.safetensors").is_file()


def test_a_folder_of_that_name_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "instructx-tiny").mkdir()
    assert str(located("instructx-tiny")) == "instructx-tiny"
    assert located(tmp_path / "instructx-tiny") == tmp_path / "instructx-tiny"


@pytest.mark.parametrize("command", [["info"], ["edit", "in.png", "make it red", "-o", "out.png", "--model"]])
def test_weights_that_are_not_shipped_are_one_sentence(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bundled, "FOLDER", tmp_path / "package")
    Image.new("RGB", (64, 64)).save(tmp_path / "in.png")
    assert cli.main([*command, "insightedit-tiny"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "not in this package yet" in said[0] and "recipes.insightedit_tiny" in said[0]
    with pytest.raises(CheckpointError, match="not in this package yet"):
        Editor.from_pretrained("insightedit-tiny", download=True)
