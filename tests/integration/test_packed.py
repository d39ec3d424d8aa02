"""A DiT that stays packed: planned as it is loaded, and the same edits however its weights are kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from instructx_core import Editor, families
from instructx_core.families.loading import load_model
from instructx_core.families.meta_model import outline
from instructx_core.families.overrides import Overrides
from instructx_core.memory.choice import Memory
from instructx_core.memory.decide import outline_model
from instructx_core.memory.sizes import sizes_of
from instructx_core.weights.files import read_safetensors, write_safetensors
from instructx_core.weights.packed_linear import packed_layers
from instructx_core.weights.parts import Part
from instructx_core.weights.wan_keys import dit_to_original
from support import public_models, tiny
from support.quantise import quantised
from support.weight_forms import scaled

DIT = "transformer/diffusion_pytorch_model.safetensors"
KINDS = ("fp8", "int8", "int8 rotated", "nvfp4", "mxfp8")


def written(state: dict[str, torch.Tensor], kind: str, path: Path) -> Path:
    original = dit_to_original(state)
    if kind == "fp8":
        write_safetensors(path, scaled(original, "old"))
    else:
        stored, metadata, _ = quantised(original, kind)
        write_safetensors(path, stored, metadata)
    return path


@pytest.fixture(scope="module")
def dits(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, (state, _) = tmp_path_factory.mktemp("dits"), read_safetensors(whole / DIT)
    return {kind: written(state, kind, folder / kind) for kind in KINDS}


def latents(editor: Editor) -> torch.Tensor:
    return editor.edit(tiny.clip(1, 32, 32), "make it snow", seed=3, steps=2).latents


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_knows_what_a_packed_dit_takes(kind: str, whole: Path, dits: dict[str, Path]):
    opened = families.open(whole, Overrides(dits[kind]))
    loaded = load_model(opened, dtype=torch.bfloat16, packed=True)
    sizes = sizes_of(loaded)
    assert packed_layers(loaded.denoiser.transformer)
    assert sizes_of(outline(opened, torch.bfloat16, packed=True)) == sizes
    wide = sizes_of(load_model(opened, dtype=torch.bfloat16))
    assert sizes.dit.total < wide.dit.total and sizes.dit.block < (0.45 if kind == "nvfp4" else 0.75) * wide.dit.block
    planned = outline_model(opened, torch.bfloat16, torch.device("cpu"))
    assert planned.sizes == sizes and planned.held.mapped[Part.DIT] >= sizes.dit.packed > 0
    for changing in ({"merged": True}, {"fp8": True}):  # these change numbers, so they are unpacked first
        assert outline_model(opened, torch.bfloat16, torch.device("cpu"), **changing).sizes.dit.packed == 0


@pytest.mark.parametrize("kind", KINDS)
def test_packed_edits_are_the_unpacked_ones(kind: str, whole: Path, dits: dict[str, Path]):
    expected = latents(Editor(load_model(families.open(whole, Overrides(dits[kind])))))
    editor = Editor.from_pretrained(whole, device="cpu", transformer=dits[kind])
    assert packed_layers(editor.denoiser.transformer)
    torch.testing.assert_close(latents(editor), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("memory", tiny.ways_here([Memory.MODEL, Memory.GROUP, Memory.SEQUENTIAL]))
def test_packed_weights_are_kept_in_every_way(memory: Memory, whole: Path, dits: dict[str, Path]):
    expected = latents(Editor.from_pretrained(whole, device="cpu", transformer=dits["nvfp4"]))
    found = latents(Editor.from_pretrained(whole, device="cpu", transformer=dits["nvfp4"], memory=memory.value))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fp8", "int8 rotated", "nvfp4"])
def test_packed_blocks_compile(kind: str, whole: Path, dits: dict[str, Path]):
    expected = latents(Editor.from_pretrained(whole, device="cpu", transformer=dits[kind]))
    found = latents(Editor.from_pretrained(whole, device="cpu", transformer=dits[kind], compile=True))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_packed_model_is_saved_unpacked(whole: Path, dits: dict[str, Path], tmp_path: Path):
    editor = Editor.from_pretrained(whole, device="cpu", transformer=dits["int8 rotated"])
    editor.save_pretrained(tmp_path / "saved")
    assert packed_layers(editor.denoiser.transformer)
    saved = Editor.from_pretrained(tmp_path / "saved", device="cpu")
    assert not packed_layers(saved.denoiser.transformer)
    torch.testing.assert_close(latents(saved), latents(editor), atol=1e-5, rtol=1e-5)


def test_a_model_s_own_lora_stands_beside_packed_weights(tmp_path: Path):
    """CoinVE-Edit's: as if it were merged, and planned."""
    files = public_models.save_coinve(tmp_path / "coinve")
    state, _ = read_safetensors(files["transformer"] / "diffusion_pytorch_model.safetensors")
    packed = dict(state)
    for name, value in state.items():
        if name.startswith("blocks.") and name.endswith(".weight") and value.ndim == 2:
            scale = value.abs().max() / 127
            packed[name] = (value / scale).round().to(torch.int8)
            packed[f"{name}_scale"] = scale
            said = b'{"format": "int8_tensorwise"}'
            packed[name.replace(".weight", ".comfy_quant")] = torch.frombuffer(bytearray(said), dtype=torch.uint8)
    write_safetensors(files["transformer"] / "diffusion_pytorch_model.safetensors", packed, {"format": "pt"})
    opened = families.open(files["path"], Overrides(*(files[part] for part in ("transformer", "vae", "mllm"))))
    model = load_model(opened, packed=True)
    layers = packed_layers(model.denoiser.transformer)
    assert {name for name, layer in layers.items() if layer.down is not None} == set(opened.match.loras[Part.DIT])
    assert sizes_of(outline(opened, torch.float32, packed=True)) == sizes_of(model)
    expected = latents(Editor(load_model(opened)))
    torch.testing.assert_close(latents(Editor(model)), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("part", ["transformer", "mllm"])
def test_on_a_mac_s_gpu_weights_are_unpacked_as_they_are_read(
    part: str, whole: Path, dits: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    mps = torch.device("mps")
    monkeypatch.setattr("instructx_core.editor.pick_device", lambda _device: mps)
    monkeypatch.setattr("instructx_core.editor.place", lambda components, _plan, _device: components)
    is_dit = part == "transformer"
    path, given = (whole, Overrides(dits["fp8"])) if is_dit else with_packed_reader("bernini", "fp8", tmp_path)
    planned = outline_model(families.open(path, given), torch.bfloat16, mps)
    editor = Editor.from_pretrained(path, **{part: getattr(given, part)})
    assert sizes_of(editor.components) == planned.sizes and planned.held.own == planned.held.total
    assert not packed_layers(editor.guidance.mllm) and not packed_layers(editor.denoiser.transformer)


@pytest.mark.parametrize("changing", ["lora", "fp8"])
def test_what_reads_stays_packed_where_the_dit_changes(changing: str, tmp_path: Path):
    path, given = with_packed_reader("coinve", "fp8", tmp_path)
    opened = families.open(path, given)
    out, width = opened.lora_targets(Part.DIT)["blocks.0.attn1.to_q.weight"].shape
    pair = {"lora_A": torch.ones(2, width), "lora_B": torch.ones(out, 2)}
    lora = tmp_path / "lora.safetensors"
    write_safetensors(lora, {f"blocks.0.attn1.to_q.{half}.weight": value for half, value in pair.items()})
    options = {"loras": [(lora, 1.0)]} if changing == "lora" else {"fp8": True}
    parts = {"transformer": given.transformer, "vae": given.vae, "mllm": given.mllm}
    editor = Editor.from_pretrained(path, device="cpu", dtype="bfloat16", **parts, **options)
    assert packed_layers(editor.guidance.mllm) and not packed_layers(editor.denoiser.transformer)
    plan = {"merged": True} if changing == "lora" else {"fp8": True}
    planned = outline_model(opened, torch.bfloat16, torch.device("cpu"), **plan)
    assert planned.sizes == sizes_of(editor.components)
    assert planned.held.mapped[Part.MLLM] >= planned.sizes.mllm.packed > 0 == planned.held.mapped[Part.DIT]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("coinve", "int8 by rows"),
        ("bernini", "fp8"),
        *(pytest.param("coinve", kind, marks=pytest.mark.slow) for kind in ("fp8", "nvfp4")),
    ],
)
def test_what_reads_stays_packed(name: str, kind: str, tmp_path: Path):
    """A Qwen3-VL with a LoRA of the model's own, and a umT5: planned as loaded, hidden states to the bit."""
    opened = families.open(*with_packed_reader(name, kind, tmp_path))
    packed, wide = (load_model(opened, dtype=torch.bfloat16, packed=way) for way in (True, False))
    layers = packed_layers(packed.guidance.mllm)
    assert sum(layer.is_packed for layer in layers.values()) > 2
    sizes = sizes_of(packed)
    assert sizes_of(outline(opened, torch.bfloat16, packed=True)) == sizes
    assert sizes.mllm.packed > 0 and sizes.mllm.total < sizes_of(wide).mllm.total
    own = dict(wide.guidance.mllm.named_parameters())
    for name, layer in layers.items():
        if layer.is_packed and layer.down is None:
            assert torch.equal(layer.numbers(torch.bfloat16), own[name])
    edits = [latents(Editor(load_model(opened, packed=way))) for way in (True, False)]
    torch.testing.assert_close(*edits, atol=1e-4, rtol=1e-4)


def with_packed_reader(name: str, kind: str, tmp_path: Path) -> tuple[Path, Overrides]:
    """A tiny model, and its base weights with its instruction reader in one quantised file."""
    if name == "coinve":
        files = public_models.save_coinve(tmp_path / "model")
        whole = files.pop("mllm")
    else:
        files = {"path": public_models.save_bernini(tmp_path / "model")}
        whole = tmp_path / "model" / "text_encoder"
    state, _ = read_safetensors(whole / "model.safetensors")
    shutil.copytree(whole, tmp_path / "packed", ignore=shutil.ignore_patterns("*.safetensors"))
    lone = tmp_path / "packed" / "reader.safetensors"
    if kind == "fp8":
        write_safetensors(lone, eight_bits(state))
    else:
        stored, metadata, _ = quantised(state, kind)
        write_safetensors(lone, stored, metadata)
    given = Overrides(**{part: path for part, path in files.items() if part != "path"}, mllm=lone)
    return files["path"], given


def eight_bits(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Of blocks and layers, with a scale each, as ComfyUI's files of text encoders have them."""
    made: dict[str, torch.Tensor] = {"scaled_fp8": torch.zeros(0, dtype=torch.float8_e4m3fn)}
    for name, value in state.items():
        is_block = any(part in name for part in ("block.", "blocks.", "layers.")) and value.ndim == 2
        made[name] = value
        if is_block and name.endswith(".weight"):
            scale = value.abs().max() / 448
            made[name] = (value / scale).to(torch.float8_e4m3fn)
            made[name.replace(".weight", ".scale_weight")] = scale
    return made
