"""Weights whose names are within wrappers, of each family and in both spellings: loaded as those without."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from instructx_core.errors import CheckpointError
from instructx_core.model_info import describe
from instructx_core.weights.detect import find_form
from instructx_core.weights.dit import load_dit
from instructx_core.weights.files import read_safetensors, write_safetensors
from instructx_core.weights.mllm import load_mllm
from instructx_core.weights.parts import Part
from instructx_core.weights.vae import load_vae
from instructx_core.weights.wan_keys import DIT_ORIGINAL, VAE_ORIGINAL, dit_to_original, vae_to_original
from instructx_core.weights.wrapped_names import NameLayout
from support.wan_models import dit_from_native
from support.weight_forms import scaled, write_gguf

State = dict[str, torch.Tensor]


def within(word: str) -> Callable[[str], str]:
    """A wrapper around each of a model's blocks, and around what lies in it."""
    return lambda name: re.sub(r"((?:blocks|layers|downsamples|upsamples)\.\d+)\.", rf"\1.{word}.", name)


WRAPPERS: dict[str, Callable[[str], str]] = {
    "_orig_mod.": lambda name: f"_orig_mod.{name}",
    "module.": lambda name: f"module.{name}",
    "model.": lambda name: f"model.{name}",
    "net.": lambda name: f"net.{name}",
    "model._orig_mod.": lambda name: f"model._orig_mod.{name}",
    "module._orig_mod.module.": lambda name: f"module._orig_mod.module.{name}",
    "base_model.model.": lambda name: f"base_model.model.{name}",
    "a stranger's": lambda name: f"student.generator_ema.{name}",
    "compiled within": within("_orig_mod"),
    "checkpointed within": within("_checkpoint_wrapped_module"),
    "sharded within": lambda name: f"_fsdp_wrapped_module.{within('_fsdp_wrapped_module')(name)}",
    "peft's": lambda name: re.sub(r"\.(q|to_q|q_proj)\.", r".\1.base_layer.", name),
}


QUICK = {"_orig_mod.", "net.", "sharded within"}
WRAPPED = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in WRAPPERS]


@pytest.fixture(scope="module")
def apart(whole: Path) -> dict[str, State]:
    """Each part's tensors under its library's names."""
    files = {"dit": "transformer/diffusion_pytorch_model", "vae": "vae/diffusion_pytorch_model", "mllm": "mllm/model"}
    return {part: read_safetensors(whole / f"{file}.safetensors")[0] for part, file in files.items()}


def assert_same(found: torch.nn.Module, expected: State) -> None:
    state = found.state_dict()
    for name, value in expected.items():
        assert torch.equal(state[name], value), name


@pytest.mark.parametrize("names", ["original", "library"])
@pytest.mark.parametrize("wrapper", WRAPPED)
def test_dit(wrapper: str, names: str, apart, whole: Path, tmp_path: Path):
    state = dit_to_original(apart["dit"]) if names == "original" else apart["dit"]
    path = tmp_path / "dit.safetensors"
    write_safetensors(path, {WRAPPERS[wrapper](name): value for name, value in state.items()})
    assert_same(load_dit(find_form(path, Part.DIT), torch.float32), apart["dit"])
    assert "Wan DiT" in describe(path) and "not usable" not in describe(path)
    if names == "library":  # beside its config, as its library saves it
        shutil.copy(whole / "transformer" / "config.json", tmp_path)
        shutil.move(path, tmp_path / "diffusion_pytorch_model.safetensors")
        assert_same(load_dit(find_form(tmp_path, Part.DIT), torch.float32), apart["dit"])


@pytest.mark.parametrize("names", ["original", "library"])
@pytest.mark.parametrize("wrapper", WRAPPED)
def test_vae(wrapper: str, names: str, apart, whole: Path, tmp_path: Path):
    state = vae_to_original(apart["vae"]) if names == "original" else apart["vae"]
    shutil.copy(whole / "vae" / "config.json", tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    write_safetensors(path, {WRAPPERS[wrapper](name): value for name, value in state.items()})
    assert_same(load_vae(find_form(tmp_path, Part.VAE), torch.float32), apart["vae"])
    assert "Wan VAE" in describe(path)


@pytest.mark.parametrize("lone", [True, False])
@pytest.mark.parametrize("wrapper", WRAPPED)
def test_mllm(wrapper: str, lone: bool, apart, whole: Path, tmp_path: Path):
    path = tmp_path / "mllm" / ("a.safetensors" if lone else "model.safetensors")
    shutil.copytree(whole / "mllm", tmp_path / "mllm")
    (tmp_path / "mllm" / "model.safetensors").unlink()
    state = {WRAPPERS[wrapper](name): value for name, value in apart["mllm"].items()}
    write_safetensors(path, state, {"format": "pt"})
    model, _ = load_mllm(find_form(path if lone else tmp_path / "mllm", Part.MLLM), whole, torch.float32)
    plain, _ = load_mllm(find_form(whole / "mllm", Part.MLLM), whole, torch.float32)
    assert_same(model, plain.state_dict())


def test_wrapped_8_bit_floats_and_gguf(apart, tmp_path: Path):
    original = dit_to_original(apart["dit"])
    write_safetensors(tmp_path / "fp8", {f"module.{name}": value for name, value in scaled(original, "new").items()})
    plain = load_dit(find_form(tmp_path / "fp8", Part.DIT), torch.float32).state_dict()
    for name, value in apart["dit"].items():
        assert (plain[name] - value).abs().max() <= 0.07 * value.abs().max(), name
    write_gguf({f"_orig_mod.{name}": value for name, value in original.items()}, tmp_path / "gguf", "Q8_0")
    packed = load_dit(find_form(tmp_path / "gguf", Part.DIT), torch.float32)
    assert torch.equal(packed.patch_embedding.weight, original["patch_embedding.weight"])


def test_a_wrapped_kiwi_dit_keeps_its_embedders(apart):
    original = dit_to_original(apart["dit"])
    embedders = {f"{kind}.patch_embedding.weight": torch.ones(1) for kind in ("vae_condition", "ref_vae_condition")}
    state = {f"module.{name}": value for name, value in (original | embedders).items()}
    dit, added = dit_from_native(state)
    assert dit.keys() == apart["dit"].keys()
    assert sorted(added) == ["denoiser.reference_embedding.weight", "denoiser.source_embedding.weight"]


@pytest.mark.parametrize("name", ["module.blocks.0.self_attn.q.weight", "blocks.0.self_attn.q.lora_A.default.weight"])
def test_two_of_one_name_are_refused(name: str, apart, tmp_path: Path):
    state = dit_to_original(apart["dit"])
    write_safetensors(tmp_path / "dit", state | {name: state["blocks.0.self_attn.q.weight"].clone()})
    with pytest.raises(CheckpointError, match="twice, with and without a prefix"):
        load_dit(find_form(tmp_path / "dit", Part.DIT), torch.float32)
    words = apart["mllm"] | {"module.lm_head.weight": torch.ones(2, 2), "lm_head.weight": torch.ones(2, 2)}
    write_safetensors(tmp_path / "mllm", words)
    with pytest.raises(CheckpointError, match="twice, with and without a prefix"):
        find_form(tmp_path / "mllm")


@pytest.mark.parametrize("name", ["module.vace_blocks.0.self_attn.q.weight", "blocks.0.audio.proj.weight", "x.y"])
def test_what_no_wan_has_is_named_as_it_is(name: str, apart, tmp_path: Path):
    write_safetensors(tmp_path / "dit", dit_to_original(apart["dit"]) | {name: torch.ones(2)})
    with pytest.raises(CheckpointError, match=f"1 of .* do not belong to .*{re.escape(name)}"):
        load_dit(find_form(tmp_path / "dit", Part.DIT), torch.float32)


def test_every_wrapper_is_left_out(apart):
    for layout, state in ((DIT_ORIGINAL, dit_to_original(apart["dit"])), (VAE_ORIGINAL, vae_to_original(apart["vae"]))):
        for wrap in WRAPPERS.values():
            assert [layout.bare(wrap(name)) for name in state] == list(state)


def test_a_layout_knows_its_names_alone():
    layout = NameLayout(["blocks.0.q.weight", "head.weight"])
    for name in ("blocks.7.q.weight", "head.weight"):
        for before in ("", "a.", "a.b.", "_c."):
            assert layout.bare(before + name) == name
    for name in ("blocks.q.weight", "a.blocks.0.k.weight", "weight", "", "a.head", json.dumps({"a": 1})):
        assert layout.bare(name) == name
