"""Which files of a folder are a part's weights: what else people keep beside them is left alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from instructx_core.convert import convert
from instructx_core.errors import CheckpointError
from instructx_core.families.overrides import OWN, Overrides
from instructx_core.weights.detect import find_form
from instructx_core.weights.dit import checked_dit
from instructx_core.weights.files import read_safetensors, write_safetensors
from instructx_core.weights.marks import lone_file
from instructx_core.weights.parts import Part
from support.opening import outlined
from support.pickles import pickled
from support.same import assert_same, assert_same_model, weights
from support.weight_forms import in_shards

STEMS = {"mllm": "model", "transformer": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
LORA = {"transformer.blocks.0.attn1.to_q.lora_A.weight": torch.ones(2, 2)}


@pytest.mark.parametrize("sharded", [False, True], ids=["one file", "shards"])
@pytest.mark.parametrize("part", STEMS)
def test_a_lora_and_a_variant_beside_the_weights(part: str, sharded: bool, saved: Path, model: Path, tmp_path: Path):
    folder, stem = model / part, STEMS[part]
    state, metadata = read_safetensors(folder / f"{stem}.safetensors")
    if sharded:
        (folder / f"{stem}.safetensors").unlink()
        shutil.copytree(in_shards(state, tmp_path / "shards", stem), folder, dirs_exist_ok=True)
    write_safetensors(folder / "pytorch_lora_weights.safetensors", LORA)
    half = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    write_safetensors(folder / f"{stem}.fp16.safetensors", half, metadata)
    assert_same_model(model, saved, OWN, torch.float32)
    convert(model, tmp_path / "own", Overrides(vae=model / "vae"))
    assert_same_model(tmp_path / "own", saved, OWN, torch.float32)
    assert not list((tmp_path / "own").rglob("*lora*"))


def test_what_macos_puts_beside_files_is_no_weights(saved: Path, model: Path, tmp_path: Path):
    """On the disks of other systems each file has a "._NAME" beside it."""
    beside = [path.with_name(f"._{path.name}") for path in model.rglob("*") if path.is_file()]
    for path in [*beside, *(model / part / "._more.safetensors.index.json" for part in STEMS)]:
        path.write_bytes(b"\0\5\x16\7" + bytes(60))
    assert_same_model(model, saved, OWN, torch.float32)
    convert(model, tmp_path / "own", Overrides(vae=model / "vae"))
    assert not list((tmp_path / "own").rglob("._*"))
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("trained.safetensors", "._trained.safetensors"):
        (alone / name).touch()
    assert lone_file(alone) == alone / "trained.safetensors"


@pytest.mark.parametrize("has_index", [True, False])
def test_a_shard_of_unknown_tensors_is_not_reported_as_missing(has_index: bool, saved: Path, tmp_path: Path):
    state, _ = read_safetensors(saved / "transformer" / "diffusion_pytorch_model.safetensors")
    first, second = (f"diffusion_pytorch_model-0000{number}-of-00002.safetensors" for number in (1, 2))
    write_safetensors(tmp_path / first, state)
    write_safetensors(tmp_path / second, {"vace_blocks.0.proj.weight": torch.ones(2)})
    if has_index:
        index = {"weight_map": dict.fromkeys(state, first) | {"vace_blocks.0.proj.weight": second}}
        (tmp_path / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    form = find_form(tmp_path, Part.DIT)
    assert [file.name for file in form.files] == [first, second]
    with pytest.raises(CheckpointError, match=r"1 of 70 tensors do not belong .*'vace_blocks\.0\.proj\.weight'"):
        checked_dit(form)


@pytest.mark.parametrize("part", STEMS)
def test_a_variant_alone_is_read(part: str, saved: Path, model: Path, tmp_path: Path):
    """Which diffusers and transformers do where its name is given to them alone."""
    (model / part / f"{STEMS[part]}.safetensors").rename(model / part / f"{STEMS[part]}.fp16.safetensors")
    outlined(model, torch.float32)
    assert_same_model(model, saved, OWN, torch.float32)
    convert(model, tmp_path / "own", Overrides(vae=model / "vae"))
    assert_same_model(tmp_path / "own", saved, OWN, torch.float32)


@pytest.mark.parametrize("part", STEMS)
def test_a_trainer_s_pickles_beside_pickled_weights(part: str, saved: Path, model: Path, tmp_path: Path):
    name = "pytorch_model.bin" if part == "mllm" else "diffusion_pytorch_model.bin"
    pickled(model, f"{part}/{STEMS[part]}.safetensors", name)
    torch.save({"learning rate": 1.0}, model / part / "training_args.bin")
    torch.save({"step": 1}, model / part / "an_optimizer.pt")
    convert(model, tmp_path / "own", Overrides(vae=model / "vae"), allow_pickle=True)
    assert_same(weights(tmp_path / "own"), weights(saved))


def test_pickles_that_an_index_names(saved: Path, model: Path, tmp_path: Path):
    state, _ = read_safetensors(model / "mllm" / "model.safetensors")
    (model / "mllm" / "model.safetensors").unlink()
    names = sorted(state)
    for file, held in {"first.bin": names[::2], "second.bin": names[1::2]}.items():
        torch.save({name: state[name].clone() for name in held}, model / "mllm" / file)
    torch.save({"learning rate": 1.0}, model / "mllm" / "training_args.bin")
    index = {name: ("first.bin", "second.bin")[number % 2] for number, name in enumerate(names)}
    (model / "mllm" / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))
    convert(model, tmp_path / "own", Overrides(vae=model / "vae"), allow_pickle=True)
    assert_same(weights(tmp_path / "own"), weights(saved))
