"""Kiwi-Edit's training checkpoints on their base models: the same model as the authors publish of them.

The files are made here as the authors' code saves them (showlab/Kiwi-Edit 223572d, `train.py` with the options in
`scripts/`); the published model is the recorded one, whose LoRA is merged.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from instructx_core import Editor, families
from instructx_core.errors import CheckpointError
from instructx_core.families import part_loaders
from instructx_core.families.components import adapter_state
from instructx_core.families.kiwi.trained import recognise
from instructx_core.families.overrides import Overrides
from instructx_core.model_info import describe
from instructx_core.weights.files import read_safetensors, write_safetensors
from instructx_core.weights.packed_linear import unpacked_layers
from instructx_core.weights.parts import Part
from instructx_core.weights.wan_keys import dit_to_diffusers, dit_to_original
from support import kiwi_model
from support.kiwi_recorded import recorded, run
from support.kiwi_trained import RANK, as_trained, lora, spelled, taken_off
from support.opening import added, config_of
from support.opening import load as load_components
from support.weight_forms import write_gguf

DIT = "transformer/diffusion_pytorch_model.safetensors"
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")  # what the scripts train of the MLLM
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def stage3(kiwi: Path, tmp_path_factory) -> Path:
    """`file` of a run that trained the whole DiT and LoRA of the MLLM, and `qwen`, the MLLM that it began with."""
    folder = tmp_path_factory.mktemp("stage3")
    weights, metadata = read_safetensors(kiwi / "mllm_encoder" / "model.safetensors")
    trained = tuple(f"self_attn.{projection}.weight" for projection in PROJECTIONS)
    targets = [name for name in weights if name.endswith(trained)]
    base, pairs = taken_off(weights, targets)
    shutil.copytree(kiwi / "processor", folder / "qwen")
    (folder / "qwen" / "qwen_config.json").rename(folder / "qwen" / "config.json")
    write_safetensors(folder / "qwen" / "model.safetensors", base, metadata)
    pairs = {"model.language_model." + name.split("model.")[-1]: pair for name, pair in pairs.items()}
    state = as_trained(added(kiwi)) | spelled(pairs, "mllm.model.")
    original = dit_to_original(read_safetensors(kiwi / DIT)[0])
    write_safetensors(folder / "file", state | {f"dit.{name}": value for name, value in original.items()})
    return folder


def load(kiwi: Path, stage3: Path, **changed: Path | None) -> Editor:
    base = {"transformer": kiwi / "transformer", "vae": kiwi / "vae", "mllm": stage3 / "qwen"} | changed
    return Editor.from_pretrained(stage3 / "file", device="cpu", dtype=torch.float32, **base)


def close(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    with unpacked_layers(one, torch.float32), unpacked_layers(other, torch.float32):  # a LoRA merged
        first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all((first[name] - second[name]).abs().max() < 1e-5 for name in first)


def test_it_is_the_published_model(kiwi: Path, stage3: Path):
    published, trained = load_components(kiwi), load(kiwi, stage3)
    # what was shown of a reference is not in the file: it is the published 5B's, the recorded model's is smaller
    shown = replace(published.config.guidance, reference_max_pixels=28 * 28 * 768)
    assert config_of(stage3 / "file") == trained.config == replace(published.config, guidance=shown)
    for part in ("guidance", "connector", "denoiser", "codec"):
        assert close(getattr(trained, part), getattr(published, part)), part


def test_it_edits_as_the_authors_pipeline(kiwi: Path, stage3: Path):
    expected = recorded(kiwi, "image")
    edited = run(load(kiwi, stage3), expected)
    assert (edited.context - expected.context).abs().max() < 1e-4
    assert (edited.latents - expected.latents).abs().max() < 1e-4


@pytest.mark.parametrize(("other", "dit"), [("pipe.", "pipe.dit."), ("pipe.", ""), ("", "")])
def test_prefixes_of_every_script(other: str, dit: str, stage3: Path, tmp_path: Path):
    """`--remove_prefix_in_ckpt` takes off none, "pipe.dit.", or "pipe."."""
    state, _ = read_safetensors(stage3 / "file")
    plain = {name: name.removeprefix("dit.") for name in state}
    renamed = {dit + bare if bare != name else other + name: state[name] for name, bare in plain.items()}
    write_safetensors(tmp_path / "file", renamed)
    found, expected = recognise(tmp_path / "file"), recognise(stage3 / "file")
    assert found.added.keys() == expected.added.keys() != set()
    assert found.loras[Part.MLLM].keys() == expected.loras[Part.MLLM].keys() != set()
    assert len(found.held[Part.DIT].tensors) == len(expected.held[Part.DIT].tensors) > 0
    assert found.config == expected.config


def test_a_lora_of_the_dit(kiwi: Path, stage3: Path, tmp_path: Path):
    """`--dit_lora_base_model dit`: merged onto the DiT that is given."""
    original = dit_to_original(read_safetensors(kiwi / DIT)[0])
    layers = ("self_attn.q", "cross_attn.o", "ffn.0")
    targets = [f"blocks.{block}.{layer}.weight" for block in (0, 1) for layer in layers]
    base, pairs = taken_off(original, targets)
    folder = shutil.copytree(kiwi / "transformer", tmp_path / "transformer")
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    write_safetensors(folder / "diffusion_pytorch_model.safetensors", dit_to_diffusers(base), {"format": "pt"})
    state, _ = read_safetensors(stage3 / "file")
    state = {name: value for name, value in state.items() if not name.startswith("dit.")}
    write_safetensors(tmp_path / "file", state | spelled(pairs, "dit."))
    shutil.copytree(stage3 / "qwen", tmp_path / "qwen")
    found = load(kiwi, tmp_path, transformer=folder)
    assert close(found.denoiser, load_components(kiwi).denoiser)
    assert "LoRA on 6 layers" in describe(tmp_path / "file")
    with pytest.raises(CheckpointError, match="has no Wan DiT of its own"):
        load(kiwi, tmp_path, transformer=None)


def test_a_part_of_it_is_checked_without_the_rest_of_the_file(stage3: Path, monkeypatch: pytest.MonkeyPatch):
    """The file holds the whole DiT, and every node reads what it needs of it."""
    opened = families.open(stage3 / "file", Overrides(mllm=stage3 / "qwen"))
    seen: list[str] = []
    monkeypatch.setattr(part_loaders, "check_finite", lambda tensors, _path: seen.extend(tensors))
    part_loaders.load_connector(opened)
    added = opened.match.adapter[stage3 / "file"]
    assert sorted(seen) == sorted(added) and len(added) < len(opened.match.stored[stage3 / "file"]) / 2


def test_nan_in_its_lora_is_found_before_the_mllm_is_read(stage3: Path, tmp_path: Path):
    state, _ = read_safetensors(stage3 / "file")
    down = next(name for name in state if name.endswith("lora_A.default.weight"))
    write_safetensors(tmp_path / "file", state | {down: torch.full_like(state[down], torch.nan)})
    opened = families.open(tmp_path / "file", Overrides(mllm=stage3 / "qwen"))
    with pytest.raises(CheckpointError, match=rf"file' holds NaN or infinity in 1 tensors \('{re.escape(down)}'\)"):
        part_loaders.load_guidance_part(opened, torch.float32, lambda _count: pytest.fail("the MLLM was read"))


def test_with_heads_of_128_its_own_dit_is_enough(tmp_path: Path):
    """As the published sizes have; saved in this repo's layout it is one model."""
    own = kiwi_model.components()
    kiwi_model.publish(own, tmp_path / "model")
    adapter = adapter_state(own.guidance, own.connector, own.denoiser)
    state = as_trained(adapter) | dit_to_original(own.denoiser.transformer.state_dict())
    write_safetensors(tmp_path / "file", {f"pipe.{name}" if name.startswith("mllm.") else name: value
                                          for name, value in state.items()})  # fmt: skip
    base = {"vae": tmp_path / "model" / "vae", "mllm": tmp_path / "model"}
    editor = Editor.from_pretrained(tmp_path / "file", device="cpu", **base)
    editor.save_pretrained(tmp_path / "saved")
    for read in (editor, load_components(tmp_path / "saved")):
        assert close(read.denoiser, own.denoiser) and close(read.guidance, own.guidance)


def test_info(stage3: Path):
    said = describe(stage3 / "file")
    assert "Kiwi-Edit, a training checkpoint" in said and "8 for images, 12 for videos, 16 for references" in said
    assert "LoRA on 8 layers" in said and "--mllm PATH --vae PATH, the base" in said


# --- what is refused


def test_refusals(kiwi: Path, stage3: Path, saved: Path, tmp_path: Path):
    state, _ = read_safetensors(stage3 / "file")
    for missing, family in (("vae", "Wan VAE"), ("mllm", "Qwen2.5-VL")):
        with pytest.raises(CheckpointError, match=rf"has no {family} of its own.*--{missing} PATH"):
            load(kiwi, stage3, **{missing: None})
    with pytest.raises(CheckpointError, match="width, 48, is not a multiple of 128"):
        load(kiwi, stage3, transformer=None)
    with pytest.raises(CheckpointError, match=r"context of width 48, but the DiT in .* takes 24"):
        load(kiwi, stage3, transformer=saved / "transformer")

    def refused(changed: State, message: str, **base: Path) -> None:
        write_safetensors(tmp_path / "file", changed)
        if not (tmp_path / "qwen").exists():
            shutil.copytree(stage3 / "qwen", tmp_path / "qwen")
        with pytest.raises(CheckpointError, match=message):
            load(kiwi, tmp_path, **base)

    first = {name: value for name, value in state.items() if "video_queries" not in name}
    refused(first, r"holds no queries.video, which its stage did not train; give a file of stage 2 or 3")
    down = next(name for name in state if name.endswith("lora_A.default.weight"))
    refused(
        {name: value for name, value in state.items() if name != down}, "holds only half of the LoRA for 'mllm.model"
    )
    refused(
        state | {down: torch.zeros(RANK, 5)},
        r"has a LoRA for layers.* of \(16, 5\), but in .* the weight is \(16, 32\)",
    )
    refused(state | {"mllm.model.odd": torch.zeros(1)}, "holds 'mllm.model.odd', which does not belong to Kiwi-Edit")
    refused(state | {down: torch.full_like(state[down], torch.nan)}, "NaN or infinity")
    for odd in ({"dit.vace": torch.zeros(1)}, {f"dit.vace.lora_{half}.weight": torch.zeros(1, 1) for half in "AB"}):
        refused(state | odd, r"file' cannot be used: 1 of .*'vace")
    gap = {name: value for name, value in state.items() if name != "dit.blocks.1.ffn.0.bias"}
    refused(gap, "not a complete Wan DiT: blocks.1.ffn.net.0.proj.bias is missing")


def test_gguf_takes_no_lora(tmp_path: Path):
    own = kiwi_model.components()
    kiwi_model.publish(own, tmp_path / "model")
    write_gguf(dit_to_original(own.denoiser.transformer.state_dict()), tmp_path / "dit", "Q8_0")
    state = as_trained(adapter_state(own.guidance, own.connector, own.denoiser))
    pair = {"blocks.0.self_attn.q.weight": lora(torch.zeros(128, 128), 0)}
    write_safetensors(tmp_path / "file", state | spelled(pair, "dit."))
    base = {"transformer": tmp_path / "dit", "vae": tmp_path / "model" / "vae", "mllm": tmp_path / "model"}
    with pytest.raises(CheckpointError, match="holds a LoRA, which GGUF weights cannot take"):
        Editor.from_pretrained(tmp_path / "file", device="cpu", **base)
