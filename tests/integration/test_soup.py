"""A stage of the recipe that starts from a mean of two models."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from instructx_core.errors import InputError
from instructx_core.training.config import read_train_config
from instructx_core.training.stages import train
from instructx_core.training.tasks import make_task
from support.training_runs import assert_same, read_editing, write_config


def test_a_stage_starts_from_a_mean_of_two_models(foundation: Path, tmp_path: Path) -> None:
    first, second = str(foundation / "generator/model"), str(train(read_editing(foundation, tmp_path / "a", steps=2)))
    start = {"model": first, "soup": second}

    def connector_and_dit(name: str, **asked) -> dict:
        parts = make_task(read_editing(foundation, tmp_path / name, **asked)).components
        return parts.connector.state_dict() | parts.denoiser.state_dict()

    own, other = (connector_and_dit(name, start={"model": name_of}) for name, name_of in (("b", first), ("c", second)))
    assert_same(connector_and_dit("d", start=start, soup=0.25), {k: own[k].lerp(other[k], 0.25) for k in own})
    assert any((own[name] != other[name]).any() for name in own)


@pytest.mark.parametrize("asked", [{"soup": 0.5}, {"start": {"model": "a", "soup": "b"}}])
def test_a_soup_needs_a_share_and_a_model(foundation: Path, tmp_path: Path, asked: dict) -> None:
    with pytest.raises(InputError, match=r"start\.soup \(a second model folder\) and soup \(its share"):
        read_editing(foundation, tmp_path / "stage", task="tiny-editing", **asked)


def test_models_of_two_sizes_are_refused(foundation: Path, tmp_path: Path) -> None:
    stage = yaml.safe_load((foundation / "generator.yaml").read_text())
    stage |= {"output": str(tmp_path / "wide"), "steps": 1}
    stage["model"]["transformer"] |= {"ffn_dim": 32}
    wide = train(read_train_config(write_config(tmp_path / "wide.yaml", **stage)))
    start = {"model": str(foundation / "generator/model"), "soup": str(wide)}
    with pytest.raises(InputError, match="differs in size from start.model: .*ffn"):
        make_task(read_editing(foundation, tmp_path / "stage", start=start, soup=0.5))
