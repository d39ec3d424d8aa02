"""Weights that are damaged or of another model: one sentence that names the file, wherever they are given."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from instructx_core import Editor
from instructx_core.convert import convert
from instructx_core.errors import CheckpointError
from instructx_core.families.overrides import Overrides
from instructx_core.model_info import describe
from instructx_core.weights.files import read_safetensors, write_safetensors
from instructx_core.weights.marks import ADAPTER
from instructx_core.weights.wan_keys import dit_to_original
from support import comfyui, kiwi_model, tiny
from support.weight_forms import in_shards

WEIGHTS = "diffusion_pytorch_model.safetensors"
FILES = {
    "own": ["transformer/" + WEIGHTS, "vae/" + WEIGHTS, "mllm/model.safetensors", ADAPTER],
    "kiwi": ["transformer/" + WEIGHTS, "vae/" + WEIGHTS, "mllm_encoder/model.safetensors",
             "mllm_encoder/" + WEIGHTS, "source_embedder/" + WEIGHTS],
}  # fmt: skip
State = dict[str, torch.Tensor]


def longest(state: State) -> str:
    """A matrix of a layer, and none of those that a model is known by."""
    return max((name for name, value in state.items() if value.ndim >= 2), key=lambda name: (len(name), name))


def whole_numbers(state: State) -> State:
    return {name: (value * 10).int() for name, value in state.items()}


def another_shape(state: State) -> State:
    return state | {longest(state): state[longest(state)][:-1].clone()}


def not_a_number(state: State) -> State:
    bad = state[longest(state)].clone()
    bad.view(-1)[-1] = float("nan")
    return state | {longest(state): bad}


def a_gap(state: State) -> State:
    return {name: value for name, value in state.items() if name != longest(state)}


def without(state: State, prefix: str) -> State:
    return {name: value for name, value in state.items() if not name.startswith(prefix)}


def too_much(state: State) -> State:
    return state | {"foo.bar": torch.ones(2)}


# what is wrong -> how a file gets it, and what is said of it
FAULTS: dict[str, tuple[Callable[[State], State], str]] = {
    "whole numbers": (whole_numbers, r"as I32, packed or as integers|as (I32|torch.int32), expected floats"),
    "another shape": (another_shape, r"is \(.*\), expected \(|are not multiples of"),
    "NaN": (not_a_number, "holds NaN or infinity in 1 tensors"),
    "a gap": (a_gap, r"missing, expected \(|expected nothing|is missing, expected 5 dimensions"),
    "too much": (too_much, r"foo\.bar"),
}


@pytest.fixture(scope="module")
def models(saved: Path, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models") / "kiwi"
    kiwi_model.publish(kiwi_model.components(), folder)
    return {"own": saved, "kiwi": folder}


def everywhere(folder: Path, match: str, target: Path, is_in_headers: bool = True) -> None:
    """What is wrong is said by editing, by converting, and by `info` where headers tell it; nothing is left."""
    base = Overrides(vae=folder / "vae") if (folder / ADAPTER).exists() else Overrides()
    calls = [lambda: Editor.from_pretrained(folder, device="cpu"), lambda: convert(folder, target, base)]
    for call in [*calls, *([lambda: describe(folder)] if is_in_headers else [])]:
        with pytest.raises(CheckpointError, match=match) as caught:
            call()
        said = str(caught.value)
        assert str(folder) in said and "\n" not in said and len(said) < 400 + len(str(folder)), said
    assert not target.exists() and not list(target.parent.glob(f".{target.name}*"))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("layout", "file"), [(layout, file) for layout, files in FILES.items() for file in files])
def test_a_file_of_a_model(layout: str, file: str, fault: str, models: dict[str, Path], tmp_path: Path):
    folder = shutil.copytree(models[layout], tmp_path / "model")
    change, match = FAULTS[fault]
    state, metadata = read_safetensors(folder / file)
    write_safetensors(folder / file, change(state), metadata)
    everywhere(folder, match, tmp_path / "out", fault != "NaN")


@pytest.mark.parametrize("index", [True, False], ids=["index", "no index"])
@pytest.mark.parametrize(("layout", "file"), [(layout, file) for layout, files in FILES.items() for file in files[:3]])
def test_a_missing_shard(layout: str, file: str, index: bool, models: dict[str, Path], tmp_path: Path):
    folder = shutil.copytree(models[layout], tmp_path / "model")
    state, _ = read_safetensors(folder / file)
    (folder / file).unlink()
    shards = in_shards(state, tmp_path / "shards", Path(file).stem)
    for path in shards.iterdir():
        if "00002-of" not in path.name and (index or path.suffix != ".json"):
            shutil.copy(path, (folder / file).parent)
    everywhere(folder, r"00002-of-00002.safetensors' is missing \(1 of 2 shards\)", tmp_path / "out")


# of what a model adds: what is wrong -> how a file gets it, and what is said of it
ADDED: dict[str, tuple[Callable[[State], State], str]] = {
    "whole numbers": (whole_numbers, "as I32, expected floats"),
    "a gap": (lambda state: without(state, "queries.image"), r"queries.image is missing, expected \(3, 32\)"),
    "another shape": (
        lambda state: {
            name: value[:-1] if name == "connector.linear_in.bias" else value for name, value in state.items()
        },
        r"connector.linear_in.bias is \(\d+,\), expected \(\d+,\)",
    ),
    "no LoRA": (lambda state: without(state, "lora."), r"it holds no lora\.\* tensors"),
    "an embedding": (
        lambda state: state | {"denoiser.source_embedding.bias": torch.ones(2)},
        r"it holds denoiser\.source_embedding\.\* tensors",
    ),
    "too much": (too_much, r"foo\.bar is \(2,\), expected nothing"),
}


@pytest.mark.parametrize("target", [ADAPTER, "dit.safetensors"])
@pytest.mark.parametrize("fault", ADDED)
def test_what_a_model_adds_for_comfyui(fault: str, target: str, model: Path, tmp_path: Path):
    """Without its base models: the config tells alone."""
    change, match = ADDED[fault]
    state, metadata = read_safetensors(model / ADAPTER)
    write_safetensors(model / ADAPTER, change(state), metadata)
    with pytest.raises(CheckpointError, match=match):
        convert(model, tmp_path / target)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_lone_dit(fault: str, tmp_path: Path):
    change, match = FAULTS[fault]
    state = dit_to_original(comfyui.transformer(comfyui.CHANNELS).state_dict())
    write_safetensors(tmp_path / "dit", change(state))
    with pytest.raises(CheckpointError, match=match) as caught:
        convert(tmp_path / "dit", tmp_path / "out.safetensors")
    assert str(tmp_path / "dit") in str(caught.value) and [path.name for path in tmp_path.iterdir()] == ["dit"]


@pytest.mark.parametrize("fault", ["whole numbers", "NaN"])
def test_a_lora(fault: str, saved: Path, tmp_path: Path):
    state = {"blocks.0.attn1.to_q.lora_A.weight": torch.ones(2, tiny.WIDTH),
             "blocks.0.attn1.to_q.lora_B.weight": torch.ones(tiny.WIDTH, 2)}  # fmt: skip
    write_safetensors(tmp_path / "lora", FAULTS[fault][0](state))
    with pytest.raises(CheckpointError, match="lora' holds (NaN or infinity in 1|.* as I32, expected floats)"):
        Editor.from_pretrained(saved, device="cpu", loras=[(tmp_path / "lora", 1.0)])


def test_a_folder_of_something_else(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").touch()
    for call in (Editor.from_pretrained, describe, lambda path: convert(path, tmp_path / "out")):
        with pytest.raises(
            CheckpointError, match=r"folder' (is not an InstructX model|has no \.safetensors|is not a model)"
        ):
            call(tmp_path / "folder")
