"""`instructx info` on weights in every form: what they are, from headers alone."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch

from instructx_core import cli
from instructx_core.weights.detect import Form
from instructx_core.weights.files import write_safetensors
from instructx_core.weights.marks import ADAPTER
from instructx_core.weights.parts import Names, Part
from instructx_core.weights.stored import Stored
from instructx_core.weights.wan_keys import dit_to_original, vae_to_original
from instructx_core.weights_info import describe_form
from support import tiny
from support.comfyui import CHANNELS, transformer
from support.wan_models import PUBLISHED, WAN21, build_dit, build_vae
from support.weight_forms import E4M3, in_shards, old_names, scaled, write_gguf


def info(path: Path, capsys) -> dict[str, str]:
    """What the command prints, title -> value."""
    assert cli.main(["info", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    return {title: value.strip() for title, _, value in (line.partition("  ") for line in lines if line)}


def test_dit_files(tmp_path: Path, capsys, monkeypatch):
    dit = transformer(CHANNELS)
    original = dit_to_original(dit.state_dict())
    count = f"{sum(value.numel() for value in original.values()) / 1e6:.2f} M"
    write_safetensors(tmp_path / "plain", {name: value.bfloat16() for name, value in original.items()})
    write_safetensors(tmp_path / "scaled", scaled(original, "new"))
    write_gguf(original, tmp_path / "gguf", "Q4_0")
    in_shards(dit.state_dict(), tmp_path / "shards")
    expected = {
        "plain": ("single file, original names", "bf16 100%"),
        "scaled": ("single file, original names, scaled", "fp32 71%, fp8 (E4M3) 29%"),
        "gguf": ("GGUF, original names", "fp32 71%, Q4_0 29%"),
        "shards": ("folder, diffusers' names", "fp32 100%"),
    }

    def fail(*_args, **_options):
        raise AssertionError("weights were read")

    monkeypatch.setattr("instructx_core.weights.files.load_file", fail)
    for name, (form, stored) in expected.items():
        said = info(tmp_path / name, capsys)
        assert said["weights"] == "Wan DiT, custom size" and said["form"] == form
        assert said["parameters"] == count, name
        assert said["stored as"] == stored
        assert said["sizes"] == "width 128, 2 layers, 16 channels, text 4096"
        assert said["for"].startswith(f"instructx edit --transformer {tmp_path / name}")
    assert "in 2 shards" in info(tmp_path / "shards", capsys)["path"]


SAID = {
    "wan2.1 1.3b": "Wan2.1 1.3B",
    "wan2.1 14b image": "Wan2.1 14B or Wan2.2 A14B, image to video",
    "wan2.2 5b": "Wan2.2 5B",
}


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_sizes_have_names(size: str):
    config = {"num_layers": 40, "num_attention_heads": 40} | PUBLISHED[size]
    state = dit_to_original(build_dit(config, "meta").state_dict())
    stored = {name: Stored("F8_E4M3", tuple(value.shape)) for name, value in state.items()}
    here = (Path(__file__),)
    said = describe_form(Form(here[0], here, Part.DIT, Names.ORIGINAL, stored))
    assert f"Wan DiT, {SAID[size]}\n" in said and "fp8 (E4M3) 100%" in said


def test_a_vae_and_an_mllm(tmp_path: Path, capsys):
    write_safetensors(tmp_path / "vae", vae_to_original(build_vae(WAN21).half().state_dict()))
    said = info(tmp_path / "vae", capsys)
    assert said["weights"] == "Wan VAE, custom size" and said["stored as"] == "fp16 100%"
    assert said["sizes"] == "16 channels, strides 8 in space and 4 in time"
    state = {name: value.to(E4M3) for name, value in old_names(tiny.mllm().state_dict()).items()}
    write_safetensors(tmp_path / "mllm", state)
    said = info(tmp_path / "mllm", capsys)
    assert said["weights"] == "Qwen2.5-VL, custom size" and said["sizes"] == "width 32, 2 layers"
    assert said["stored as"] == "fp8 (E4M3) 100%" and said["for"].startswith("instructx edit --mllm")
    assert said["parameters"] == f"{sum(math.prod(value.shape) for value in state.values()) / 1e6:.2f} M"


def test_what_cannot_be_used_says_why(tmp_path: Path, capsys):
    state = dit_to_original(transformer(CHANNELS).state_dict())
    name = "blocks.0.self_attn.q.weight"
    write_safetensors(tmp_path / "packed", state | {name: torch.zeros(128, 64, dtype=torch.uint8)})
    assert "not usable: " in (said := info(tmp_path / "packed", capsys)["for"]) and "as U8, packed" in said
    del state["blocks.1.norm3.bias"]
    write_safetensors(tmp_path / "gap", state)
    assert "blocks.1.norm2.bias is missing" in info(tmp_path / "gap", capsys)["for"]


def test_a_pipeline_is_described_part_by_part(saved: Path, tmp_path: Path, capsys):
    for name in ("transformer", "transformer_2"):
        shutil.copytree(saved / "transformer", tmp_path / name)
    shutil.copytree(saved / "vae", tmp_path / "vae")
    assert cli.main(["info", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.count("Wan DiT, ") == 2 and said.count("Wan VAE, ") == 1 and str(tmp_path / "transformer_2") in said


def test_an_adapter_alone(saved: Path, tmp_path: Path, capsys):
    shutil.copy(saved / ADAPTER, tmp_path / "mine.safetensors")
    said = info(tmp_path / "mine.safetensors", capsys)
    assert said["model"] == "random"
    assert said["DiT"] == "not included: give it with --transformer"
    assert said["MLLM"] == "not included: give it with --mllm"


def test_other_things(tmp_path: Path, capsys):
    write_safetensors(tmp_path / "other", {"lora_up.weight": torch.zeros(1)})
    (tmp_path / "empty").mkdir()
    (tmp_path / "pickle").write_bytes(b"PK\x03\x04" + bytes(100))
    for name, said in {
        "other": "does not hold a Wan DiT, a Wan VAE or a Qwen2.5-VL: it holds 'lora_up.weight'",
        "empty": "has no .safetensors weights",
        "pickle": "a PyTorch pickle",
        "nowhere": "there is no model folder",
    }.items():
        assert cli.main(["info", str(tmp_path / name)]) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.count("\n") == 1 and said in captured.err, name
