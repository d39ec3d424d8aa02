"""InsightEdit Tiny's recipe: its configs, the size of what it makes, and a run of all stages."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors import safe_open

from instructx_core import Editor, InputError
from instructx_core.diffusion import trained_sigmas
from instructx_core.families.bundled import located
from instructx_core.families.configs import config_of
from instructx_core.training.config import read_train_config
from recipes.insightedit_tiny import command, measure
from recipes.insightedit_tiny.clip import build_clip
from recipes.insightedit_tiny.llava import build_llava
from recipes.insightedit_tiny.weighing import drawn_levels, level_weight, place_weight
from support import tiny

MOST_BYTES = 8_000_000  # as bfloat16


def stage(name: str):
    (path,) = (path for path in command.STAGES if path.stem.endswith(name))
    return read_train_config(path)


def test_the_model_is_small():
    """Counted on the meta device, all parts together with what they gain."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    from instructx_core.connectors import make_connector
    from instructx_core.families.components import adapter_state, guidance_class
    from instructx_core.families.networks import network_kind

    clip = stage("clip").model
    plain = yaml.safe_load((command.HERE / "model.yaml").read_text())
    config = config_of(plain | {"connector": _connector(stage("llava"), stage("drawing"))})
    with torch.device("meta"):
        vision = build_clip(clip, clip["vocabulary"]).config.vision_config
        llava = build_llava(stage("llava").model, vision, clip["vocabulary"])
        unet = UNet2DConditionModel(**stage("drawing").model | {"in_channels": 8})
        vae = AutoencoderKL(**stage("autoencoder").model)
        parts = [sum(tensor.numel() for tensor in part.state_dict().values()) for part in (llava, unet, vae)]
        guidance = guidance_class(config)(llava, None, config.guidance)
        denoiser = network_kind(config).denoiser(unet, config)
        added = adapter_state(guidance, make_connector(config.connector), denoiser)
    numbers = sum(parts) + sum(math.prod(tensor.shape) for tensor in added.values())
    assert 3_500_000 < numbers < MOST_BYTES / 2


def _connector(llava, drawing) -> dict:
    own = yaml.safe_load((command.HERE / "model.yaml").read_text())["connector"]
    widths = {"input_dim": llava.model["text"]["hidden_size"], "output_dim": drawing.model["cross_attention_dim"]}
    return own | widths


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("start={model: a}", "starts from clip and vae"),
        ("data.table=edits.csv", "leave data.table out"),
        ("data.video_probability=0.5", "train on pictures"),
        ("model={}", "needs model, the sizes of the part that it creates"),
    ],
)
def test_a_config_that_does_not_go_together_is_named(change, reason):
    with pytest.raises(InputError, match=reason):
        read_train_config(next(path for path in command.STAGES if "drawing" in path.name), [change])


@pytest.mark.parametrize("name", ["autoencoder", "clip"])
def test_a_stage_that_holds_all_its_pictures_takes_one_size(name: str):
    path = next(path for path in command.STAGES if path.stem.endswith(name))
    with pytest.raises(InputError, match=f"an insight-{name} stage takes pictures of one size"):
        read_train_config(path, ["data.sizes=[[64, 64], [32, 32]]"])


def test_paths_beside_the_folder_are_the_caller_s(tmp_path: Path, monkeypatch, capsys):
    """FOLDER becomes the working folder; what is relative is so to where the command was called."""
    given = []
    monkeypatch.setattr(command, "measure", lambda *told: given.append(told) or "")
    monkeypatch.chdir(tmp_path)
    for name in ("folder", "model"):
        (tmp_path / name).mkdir()
    asked = ["evaluate", "folder", "--images", "1"]
    assert command.main([*asked, "--model", "model", "--json", "out.json"]) == 0
    monkeypatch.chdir(tmp_path)
    assert command.main([*asked, "--model", "insightedit-tiny"]) == 0
    assert given == [(tmp_path / "model", 1, tmp_path / "out.json"), (located("insightedit-tiny").resolve(), 1, None)]
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    for wrong, words in ((["--json", "none/out.json"], "none/out.json"), (["--json", "model"], "folder")):
        assert command.main([*asked, *wrong]) == 2 and words in capsys.readouterr().err
    for name in ("evaluate", "ablate"):
        said = "'foldre' cannot be opened (No such file or directory); give the folder that `train` filled"
        assert command.main([name, "foldre"]) == 2 and said in capsys.readouterr().err
    assert len(given) == 2 and not (tmp_path / "foldre").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, capsys):
    (tmp_path / "file").touch()
    assert command.main(["train", str(tmp_path / "file")]) == 2
    said = capsys.readouterr().err
    assert "file' cannot be used (File exists); give a folder, new or existing" in said and "filled" not in said


def test_an_ablation_starts_from_the_runs_that_it_is_given(tmp_path: Path, monkeypatch):
    """Three seeds, each with the CLIP and without; nothing is trained or measured here."""
    trained = []
    editor = SimpleNamespace(config=SimpleNamespace(sampling=None))
    monkeypatch.setattr(measure, "train", lambda config, resume: trained.append(config))
    monkeypatch.setattr(measure, "Editor", SimpleNamespace(from_pretrained=lambda *_, **__: editor))
    monkeypatch.setattr(measure, "replace", lambda config, **_: config)
    monkeypatch.setattr(measure, "_numbers", lambda *_: (0.5, 20.0))
    measure.ablate(command.STAGES[-1], tmp_path, steps=1, images=1)
    both = {"model": f"{tmp_path}/editing/model", "clip": f"{tmp_path}/clip/model/clip"}
    assert [config.start for config in trained] == 3 * [both, {"model": both["model"]}]
    assert all(config.output.startswith(f"{tmp_path}/ablation/") for config in trained)


def test_errors_count_by_level_and_place():
    drawn = trained_sigmas()[drawn_levels(200_000, torch.Generator().manual_seed(0))]
    assert level_weight(drawn).mean() == pytest.approx(1.0, abs=0.01)
    # as often as it is drawn times what it then counts, a level's error of eps counts as the velocity's does
    middle = trained_sigmas()[500]
    counted = level_weight(drawn)[drawn >= middle].sum() / level_weight(drawn).sum()
    velocity = (1 - trained_sigmas()).pow(-2)
    assert counted == pytest.approx(float(velocity[500:].sum() / velocity.sum()), abs=0.01)
    source, target = torch.zeros(2, 2, 4, 1, 4, 4)
    target[0, :, :, 0, 0], target[1] = 1.0, 1.0
    weight = place_weight(source, target, edited=4.0, balance=1.0)
    assert weight[0, 0, 0, 0, 0] / weight[0, 0, 0, 0, 1] == pytest.approx(4.0)
    assert weight[0, 0, 0, 0, 0] > weight[1, 0, 0, 0, 0]  # a small edit counts more, place by place
    assert torch.equal(place_weight(source, target, 1.0, 0.0), torch.ones(2, 1, 1, 4, 4))


@pytest.mark.slow
def test_one_command_builds_it_and_goes_on(tmp_path: Path, monkeypatch):
    """Two steps a stage; the parts are the published classes, and what is finished is not run again."""
    monkeypatch.chdir(tmp_path)
    quick = ["--set", "steps=2", "--set", "data.images=64", "--set", "save_every=1"]
    assert command.main(["train", str(tmp_path), *quick, "--until", "drawing"]) == 0
    assert not (command.RUNS / "new").exists()
    assert command.main(["train", str(tmp_path), *quick]) == 0
    model = tmp_path / command.MODEL
    numbers = 0
    for file in model.rglob("*.safetensors"):
        with safe_open(file, "pt") as held:
            numbers += sum(math.prod(held.get_slice(name).get_shape()) for name in held.keys())
    assert 2 * numbers < MOST_BYTES
    edited = Editor.from_pretrained(model).edit(tiny.clip(1, 64, 64)[0], "make it blue", steps=2)
    assert edited.frames.shape == (1, 64, 64, 3)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert command.main(["train", str(tmp_path), *quick]) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == before
    assert command.main(["evaluate", str(tmp_path), "--images", "1"]) == 0
    assert command.main(["ablate", str(tmp_path), "--images", "1", "--steps", "1", *quick[2:]]) == 0
