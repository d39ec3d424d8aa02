"""What a stage's auxiliary losses have learnt goes on in the next stage, and is not shipped."""

from __future__ import annotations

from pathlib import Path

import torch

from instructx_core.training.stages import train
from instructx_core.training.tasks import make_task
from instructx_core.weights.files import read_tensors, write_safetensors
from recipes.tiny import auxiliary
from recipes.tiny.ship import main, ship
from support.training_runs import assert_same, read_editing


def test_the_next_stage_goes_on_with_its_readers(foundation: Path, tmp_path: Path) -> None:
    asked = {"reading_weight": 0.1, "hearing_weight": 0.3}
    first = read_editing(foundation, tmp_path / "first", **asked, steps=1)
    before = read_tensors(foundation / "generator/model" / auxiliary.FILE)  # which read, and did not hear
    module = make_task(first).module
    assert_same({f"reader.{name}": value for name, value in module.reader.state_dict().items()}, before)

    model = train(first)
    after = read_tensors(model / auxiliary.FILE)
    assert {name.partition(".")[0] for name in after} == {"reader", "hearer"}
    assert not torch.equal(after["reader.head.weight"], before["reader.head.weight"])
    start = {"model": str(model)}
    second = make_task(read_editing(foundation, tmp_path / "second", **asked, start=start)).module
    assert_same({name: value for name, value in second.state_dict().items() if name in after}, after)

    write_safetensors(model / auxiliary.FILE, {name: value[..., :1] for name, value in after.items()})
    third = make_task(read_editing(foundation, tmp_path / "third", **asked, start=start)).module
    assert third.hearer.state_dict()["reader.head.weight"].shape == after["hearer.reader.head.weight"].shape


def test_the_shipped_model_is_half_as_large(foundation: Path, tmp_path: Path) -> None:
    trained = foundation / "generator/model"
    ship(trained, tmp_path / "shipped")
    held = {path.relative_to(trained) for path in trained.rglob("*.safetensors")} - {Path(auxiliary.FILE)}
    shipped = {path.relative_to(tmp_path / "shipped") for path in (tmp_path / "shipped").rglob("*.safetensors")}
    assert shipped == held
    for name in shipped:
        before, after = read_tensors(trained / name), read_tensors(tmp_path / "shipped" / name)
        assert_same(*({key: value.bfloat16() for key, value in held.items()} for held in (before, after)))
        assert sum(value.nbytes for value in after.values()) < 0.6 * sum(value.nbytes for value in before.values())


def test_a_mistake_while_shipping_is_one_line(tmp_path: Path, capsys) -> None:
    assert main([str(tmp_path / "none"), str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "none" in said
