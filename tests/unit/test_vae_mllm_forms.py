"""A Wan VAE and a Qwen2.5-VL in every form in which people keep one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from instructx_core.errors import CheckpointError
from instructx_core.weights.detect import Form, find_form
from instructx_core.weights.files import read_safetensors, write_safetensors
from instructx_core.weights.mllm import config_from_shapes, load_mllm
from instructx_core.weights.parts import Names, Part
from instructx_core.weights.stored import Stored
from instructx_core.weights.vae import SCALES, load_vae
from instructx_core.weights.wan_keys import vae_to_original
from support import tiny
from support.kiwi_model import CHANNELS
from support.wan_models import WAN21, WAN22, build_vae
from support.weight_forms import E4M3, in_shards, old_names, scaled

NOWHERE = Path("no-checkpoint")

# --- VAE


@pytest.mark.parametrize("config", [WAN21, WAN22], ids=["wan2.1", "wan2.2"])
@pytest.mark.parametrize("names", [Names.LIBRARY, Names.ORIGINAL])
@torch.no_grad()
def test_a_lone_vae_file(config: dict, names: Names, tmp_path: Path):
    scale = SCALES[config["z_dim"]]
    vae = build_vae(config | scale)
    tiny.shake(vae, 0.02)
    state = vae.state_dict()
    write_safetensors(tmp_path / "weights", vae_to_original(state) if names is Names.ORIGINAL else state)
    read = load_vae(find_form(tmp_path / "weights", Part.VAE), torch.float32)
    assert find_form(tmp_path / "weights", Part.VAE).names is names
    assert all(torch.equal(read.state_dict()[name], value) for name, value in state.items())
    sizes = {name: vae.config[name] for name in vae.config if not name.startswith("_")}
    sizes["decoder_base_dim"] = sizes["decoder_base_dim"] or sizes["base_dim"]
    assert {name: read.config[name] for name in sizes} == sizes
    pixels = torch.rand(1, 3, 5, 32, 32) * 2 - 1
    assert torch.equal(read.encode(pixels).latent_dist.mean, vae.encode(pixels).latent_dist.mean)


def test_the_scale_of_wan21_is_diffusers_default():
    default = build_vae(WAN21, "meta").config
    assert {name: default[name] for name in SCALES[16]} == SCALES[16]
    assert all(len(SCALES[48][name]) == CHANNELS for name in SCALES[16])


def test_a_half_precision_vae(tmp_path: Path):
    state = vae_to_original(build_vae(WAN21).bfloat16().state_dict())
    write_safetensors(tmp_path / "weights", state)
    for dtype in (torch.float32, torch.bfloat16):
        read = load_vae(find_form(tmp_path / "weights", Part.VAE), dtype)
        assert {value.dtype for value in read.state_dict().values()} == {dtype}


def test_a_vae_that_nobody_published_needs_a_config(tmp_path: Path):
    vae = tiny.vae()
    write_safetensors(tmp_path / "weights", vae_to_original(vae.state_dict()))
    with pytest.raises(CheckpointError, match="VAE of 4 channels.*latents_mean and latents_std"):
        load_vae(find_form(tmp_path / "weights", Part.VAE), torch.float32)
    write_safetensors(tmp_path / "weights", {"encoder.conv1.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="does not hold a Wan VAE"):
        load_vae(find_form(tmp_path / "weights", Part.VAE), torch.float32)


# --- MLLM


def hidden(mllm: torch.nn.Module, words: torch.Tensor) -> torch.Tensor:
    return mllm.model.language_model(input_ids=words, use_cache=False).last_hidden_state


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A tiny Qwen2.5-VL as transformers saves it."""
    path = tmp_path_factory.mktemp("mllm") / "qwen"
    tiny.mllm().save_pretrained(path)
    tiny.tokenizer().save_pretrained(path)
    return path


@pytest.mark.parametrize("spelling", ["plain", "fp8", "old", "new"])
@torch.no_grad()
def test_a_lone_mllm_file(spelling: str, folder: Path, tmp_path: Path):
    """Comfy-Org's layout, with config and tokenizer in the checkpoint that it is used with."""
    state = old_names(tiny.mllm().state_dict())
    if spelling == "plain":
        stored = state
    elif spelling == "fp8":
        stored = {name: value.to(E4M3 if value.ndim == 2 else value.dtype) for name, value in state.items()}
    else:
        stored = scaled(state, spelling)
        del stored["lm_head.weight"]  # which no hidden state needs
    write_safetensors(tmp_path / "weights", stored)
    shutil.copytree(folder, tmp_path / "checkpoint" / "mllm")
    mllm, tokenizer = load_mllm(find_form(tmp_path / "weights", Part.MLLM), tmp_path / "checkpoint", torch.float32)
    assert tokenizer("red")["input_ids"] == tiny.tokenizer()("red")["input_ids"]
    read = old_names(mllm.state_dict())
    for name, value in state.items():
        if name == "lm_head.weight":
            continue
        if spelling == "plain" or name not in stored or stored[name].dtype == value.dtype:
            assert torch.equal(read[name], value), name
        else:
            assert 0 < (read[name] - value).abs().max() <= value.abs().max() / 8, name
    words = torch.tensor([[5, 6, 7]])
    away = (hidden(mllm, words) - hidden(tiny.mllm(), words)).abs().max()
    assert away == 0 if spelling == "plain" else 0 < away < 1


def test_mllm_folders(folder: Path, tmp_path: Path):
    """In one file, and in shards of old names; the tokenizer beside them."""
    expected = tiny.mllm().state_dict()
    sharded = in_shards(old_names(expected), tmp_path / "sharded", "model")
    for path in folder.glob("*.json"):
        shutil.copy(path, sharded)
    for path in (folder, sharded):
        mllm, _ = load_mllm(find_form(path, Part.MLLM), NOWHERE, torch.float32)
        assert all(torch.equal(mllm.state_dict()[name], value) for name, value in expected.items())


def test_a_folder_of_8_bit_floats_is_widened(folder: Path, tmp_path: Path):
    """transformers 4.57 would leave them as they are."""
    small = shutil.copytree(folder, tmp_path / "small")
    state, metadata = read_safetensors(small / "model.safetensors")
    write_safetensors(small / "model.safetensors", {name: value.to(E4M3) for name, value in state.items()}, metadata)
    seen: list[int] = []
    for progress in (None, seen.append):
        mllm, _ = load_mllm(find_form(small, Part.MLLM), NOWHERE, torch.bfloat16, progress)
        read = old_names(mllm.state_dict())
        assert all(torch.equal(read[name], value.to(E4M3).bfloat16()) for name, value in old_names(state).items())
    assert sum(seen) == sum(value.numel() for value in state.values())


def test_a_file_without_a_tokenizer(folder: Path, tmp_path: Path):
    shutil.copy(folder / "model.safetensors", tmp_path)
    with pytest.raises(CheckpointError, match="no tokenizer next to it; put tokenizer.json"):
        load_mllm(find_form(tmp_path / "model.safetensors", Part.MLLM), NOWHERE, torch.float32)
    tiny.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"not a Qwen2.5-VL of a published size .*config.json next to it"):
        load_mllm(find_form(tmp_path / "model.safetensors", Part.MLLM), NOWHERE, torch.float32)
    state, _ = read_safetensors(folder / "model.safetensors")
    gap = {name: value for name, value in state.items() if not name.endswith("layers.0.self_attn.k_proj.weight")}
    write_safetensors(tmp_path / "model.safetensors", gap)
    with pytest.raises(CheckpointError, match=r"not a complete Qwen2.5-VL: it has no layers.0.self_attn.k_proj.weight"):
        load_mllm(find_form(tmp_path / "model.safetensors", Part.MLLM), NOWHERE, torch.float32)


# text width, MLP, layers, heads, key-value heads, words: config.json of Qwen/Qwen2.5-VL-{3B,7B}-Instruct on the hub
PUBLISHED = {"3B": (2048, 11008, 36, 16, 2, 151936), "7B": (3584, 18944, 28, 28, 4, 152064)}


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_sizes_are_read_from_shapes(size: str):
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    width, mlp, layers, heads, kv_heads, words = PUBLISHED[size]
    rope = {"type": "mrope", "rope_type": "default", "rope_theta": 1000000.0, "mrope_section": [16, 24, 24]}
    text = {"hidden_size": width, "intermediate_size": mlp, "num_hidden_layers": layers, "num_attention_heads": heads,
            "num_key_value_heads": kv_heads, "vocab_size": words, "rope_theta": 1000000.0, "rope_scaling": rope,
            "rms_norm_eps": 1e-6, "max_position_embeddings": 128000}  # fmt: skip
    vision = {"depth": 32, "hidden_size": 1280, "num_heads": 16, "intermediate_size": 3420, "out_hidden_size": width,
              "fullatt_block_indexes": [7, 15, 23, 31], "window_size": 112, "tokens_per_second": 2}  # fmt: skip
    published = Qwen2_5_VLConfig(text_config=text, vision_config=vision)
    with torch.device("meta"):
        state = old_names(Qwen2_5_VLForConditionalGeneration(published).state_dict())
    stored = {name: Stored("BF16", tuple(value.shape)) for name, value in state.items()}
    form = Form(Path("file"), (Path("file"),), Part.MLLM, Names.LIBRARY, stored)

    names = ["<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]

    class Words:
        def convert_tokens_to_ids(self, token: str) -> int:
            return 151652 + names.index(token)

    assert config_from_shapes(form, Words()).to_dict() == published.to_dict()


def test_another_mllm_is_not_taken_for_one(folder: Path, tmp_path: Path):
    state, _ = read_safetensors(folder / "model.safetensors")
    qwen2 = {name.replace("gate_proj", "fc1") if "visual" in name else name: value for name, value in state.items()}
    write_safetensors(tmp_path / "weights", qwen2)
    with pytest.raises(CheckpointError, match="does not hold a Qwen2.5-VL"):
        find_form(tmp_path / "weights", Part.MLLM)
