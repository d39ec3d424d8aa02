"""Every stage brings to its device what it works on there: steps, samples and exports, on a pretended device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from instructx_core.training import editing
from instructx_core.training.config import TrainConfig, read_train_config
from instructx_core.training.steps import batch_generator
from instructx_core.training.tasks import make_task
from support.pretend_device import ELSEWHERE, MixedDevices, is_there, pretending, put
from support.training_runs import SMALL_DATA, read_editing, write_config


class There:
    """In the place of accelerate's state: a process whose device is `ELSEWHERE`."""

    device = ELSEWHERE

    def main_process_first(self) -> Any:
        return torch.no_grad()


def stage(name: str, foundation: Path, output: Path) -> TrainConfig:
    if name in ("autoencoder", "language"):
        plain = {"task": name, "output": str(output), "steps": 1, "data": SMALL_DATA}
        path = foundation / f"{name}/model/{'vae' if name == 'autoencoder' else 'mllm'}"
        return read_train_config(write_config(output, **plain, start={path.name: str(path)}))
    asked = {"reading_weight": 0.1, "hearing_weight": 0.3, "locating_weight": 1.0, "naming_weight": 0.3}
    more = {**asked, "channel_emphasis": 1.0, "balance": 1.0, "drop_source": 0.5, "loss": "data"}
    more = more if name == "editing" else {}
    data = {**SMALL_DATA, "groups": {"recolor": 1, "reference_add": 1}}
    return read_editing(foundation, output, data=data, **({} if name == "editing" else {"task": name}), **more)


def test_the_pretended_device_notices_what_cuda_would() -> None:
    own, layer = torch.zeros(3), torch.nn.Linear(3, 3)
    put(layer)
    with pretending():
        assert is_there(layer(own.to(ELSEWHERE))) and not is_there(own) and not is_there(layer.weight.cpu())
        assert own.to(ELSEWHERE).device == ELSEWHERE and torch.zeros(2, device=ELSEWHERE).device == ELSEWHERE
        for wrong in (lambda: layer(own), lambda: torch.cat([layer.weight, own[None]]), lambda: layer.bias.numpy(),
                      lambda: torch.randn(2, generator=torch.Generator(), device=ELSEWHERE)):  # fmt: skip
            with pytest.raises(MixedDevices):
                wrong()


@pytest.mark.parametrize(
    "name",
    ["autoencoder", "language", "editing"]
    + [pytest.param(name, marks=pytest.mark.slow) for name in ("generator", "reading")],
)
def test_a_stage_on_another_device(
    name: str, foundation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(editing, "process_state", There)
    with pretending(), torch.no_grad():
        task = make_task(stage(name, foundation, tmp_path / "run"))
        put(task.module)  # as accelerate does
        for is_video in (False, True):
            generator = batch_generator(0, 0, 0, 0)
            report = task.module(task.batch(generator, is_video), generator)
            assert report["loss"].isfinite() and is_there(report["loss"])
        grids = task.grids()
        assert not any(is_there(grid) for grid in grids.values())
        (tmp_path / "model").mkdir()
        task.export(tmp_path / "model")
