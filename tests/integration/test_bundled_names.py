"""Models of the package, by name, wherever a model's path is taken."""

from __future__ import annotations

import torch

from instructx_core import Editor, cli
from instructx_core.evaluation.metrics import score_edit
from instructx_core.families.bundled import located
from instructx_core.memory.describe import describe_cards
from instructx_core.model_info import describe
from instructx_core.training.config import TrainConfig
from instructx_core.training.tasks import start_encoder
from instructx_core.world import HELD_OUT_SEED, sample_triplet


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


def test_insightedit_tiny_edits(tmp_path, monkeypatch, capsys):
    """Success on pictures that it never saw; and it has a name wherever a model's path is taken."""
    monkeypatch.chdir(tmp_path)
    editor = Editor.from_pretrained("insightedit-tiny", device="cpu")
    found = [sample_triplet(HELD_OUT_SEED + seed, "background", height=64, width=64) for seed in range(8)]
    sources, targets = ([torch.from_numpy(getattr(one, name)) for one in found] for name in ("source", "target"))
    edits = editor.edit_batch(sources, [one.instruction for one in found], seeds=list(range(8)))
    good = [score_edit(one.frames, *pair).success for one, *pair in zip(edits, targets, sources, strict=True)]
    assert sum(good) >= 6
    assert describe_cards("insightedit-tiny", None, None)
    assert cli.main(["info", "insightedit-tiny"]) == 0
    assert "InsightEdit Tiny" in capsys.readouterr().out
