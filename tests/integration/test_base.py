"""What was trained, on base models that are kept apart, in other forms: the same edits as the whole model's."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from instructx_core import Editor, cli
from instructx_core.errors import CheckpointError, InputError
from instructx_core.families.instructx.folder import save_checkpoint
from instructx_core.weights.files import read_safetensors, write_safetensors
from instructx_core.weights.marks import ADAPTER
from instructx_core.weights.wan_keys import dit_to_original, vae_to_original
from support import tiny
from support.folders import linked
from support.weight_forms import in_shards, scaled, write_gguf

DIT = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def apart(whole: Path, tmp_path_factory) -> Path:
    """The same in pieces: what was trained alone, and single files of original names and of 8-bit floats."""
    folder = tmp_path_factory.mktemp("apart")
    shutil.copy(whole / ADAPTER, folder / "mine.safetensors")
    original = dit_to_original(read_safetensors(whole / DIT)[0])
    write_safetensors(folder / "dit", original)
    write_safetensors(folder / "dit-fp8", scaled(original, "old"))
    write_gguf(original, folder / "dit-gguf", "Q8_0")
    in_shards(original, folder / "dit-shards")
    shutil.copytree(whole / "mllm", folder / "qwen")
    return folder


def latents(editor: Editor) -> torch.Tensor:
    return editor.edit(tiny.clip(1, 32, 32), "make it snow", seed=3, steps=2).latents


def load(apart: Path, whole: Path, **base: Path) -> Editor:
    base = {"transformer": apart / "dit", "vae": whole / "vae", "mllm": apart / "qwen"} | base
    return Editor.from_pretrained(apart / "mine.safetensors", device="cpu", **base)


@pytest.mark.parametrize("form", ["dit", "dit-shards"])
def test_in_pieces_it_edits_as_the_whole(form: str, whole: Path, apart: Path):
    expected = latents(Editor.from_pretrained(whole, device="cpu"))
    found = latents(load(apart, whole, transformer=apart / form))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)  # sums depend on where in memory weights lie


@pytest.mark.parametrize(("form", "off"), [("dit-fp8", 0.3), ("dit-gguf", 0.05)])
def test_fewer_bits_edit_nearly_the_same(form: str, off: float, whole: Path, apart: Path):
    expected = latents(Editor.from_pretrained(whole, device="cpu"))
    away = (latents(load(apart, whole, transformer=apart / form)) - expected).std() / expected.std()
    assert 0 < away < off


def test_gguf_edits_in_bfloat16_and_is_not_saved(whole: Path, apart: Path, tmp_path: Path):
    editor = Editor.from_pretrained(whole, device="cpu", dtype=torch.bfloat16, transformer=apart / "dit-gguf")
    assert {value.dtype for value in editor.denoiser.parameters()} == {torch.bfloat16, torch.float32, torch.uint8}
    assert latents(editor).isfinite().all()
    with pytest.raises(InputError, match="GGUF weights cannot be saved again"):
        editor.save_pretrained(tmp_path / "saved")
    assert not list(tmp_path.iterdir())


def test_base_models_take_the_place_of_its_own(whole: Path, apart: Path, tmp_path: Path):
    """Also where its own are there, and as a pipeline's folder."""
    state, _ = read_safetensors(whole / DIT)
    pipeline = shutil.copytree(whole / "transformer", tmp_path / "pipeline" / "transformer").parent
    changed = {name: value * 1.5 if name == "proj_out.weight" else value for name, value in state.items()}
    write_safetensors(pipeline / DIT, changed, {"format": "pt"})
    own, other = Editor.from_pretrained(whole, device="cpu"), Editor.from_pretrained(whole, "cpu", transformer=pipeline)
    assert torch.equal(other.denoiser.transformer.proj_out.weight, own.denoiser.transformer.proj_out.weight * 1.5)
    assert torch.equal(other.connector.linear_in.weight, own.connector.linear_in.weight)


def test_kiwi_edit_on_base_models_apart(kiwi: Path, tmp_path: Path):
    """Its DiT has no heads of 128, so that it stays a folder; VAE and MLLM are given as files."""
    folder = linked(kiwi, tmp_path / "model")
    expected = Editor.from_pretrained(kiwi, device="cpu")
    shutil.move(folder / "transformer", tmp_path / "dit")
    shutil.move(folder / "mllm_encoder" / "model.safetensors", tmp_path / "qwen")
    shutil.move(folder / "vae", tmp_path / "vae")
    base = {"transformer": tmp_path / "dit", "mllm": tmp_path / "qwen", "vae": tmp_path / "vae"}
    found = Editor.from_pretrained(folder, device="cpu", **base)
    one, other = (editor.edit(tiny.clip(1, 32, 32), "make it snow", steps=1).latents for editor in (expected, found))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_the_command_line(whole: Path, apart: Path, tmp_path: Path, capsys):
    from PIL import Image

    Image.new("RGB", (32, 32), "red").save(tmp_path / "in.png")
    edit = ["edit", str(tmp_path / "in.png"), "x", "-o", str(tmp_path / "out.png"), "--steps", "1"]
    given = ["--model", str(apart / "mine.safetensors"), "--transformer", str(apart / "dit")]
    given += ["--vae", str(whole / "vae"), "--device", "cpu"]
    assert cli.main([*edit, *given]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "has no Qwen2.5-VL of its own" in said and "--mllm PATH" in said
    assert cli.main([*edit, *given, "--mllm", str(apart / "qwen")]) == 0
    assert (tmp_path / "out.png").is_file()


# --- what does not fit is said before a weight is read


@pytest.fixture
def unread(monkeypatch) -> None:
    """Reading weights fails the test."""

    def fail(*_args, **_options):
        raise AssertionError("weights were read")

    for name in ("added_tensors", "load_reader", "load_network", "load_autoencoder"):
        monkeypatch.setattr(f"instructx_core.families.loading.{name}", fail)


@pytest.mark.usefixtures("unread")
def test_base_models_of_other_sizes(whole: Path, apart: Path, saved: Path, tmp_path: Path):
    with pytest.raises(
        CheckpointError, match=r"makes a context of width 128, but the DiT in .* takes 24; give the DiT"
    ):
        load(apart, whole, transformer=saved / "transformer")
    with pytest.raises(
        CheckpointError, match=r"the VAE in .* makes 4 channels, but the DiT in .* takes 16; give a VAE"
    ):
        load(apart, whole, vae=saved / "vae")
    narrow = replace(tiny.CONFIG, connector=replace(tiny.CONFIG.connector, input_dim=tiny.HIDDEN + 8))
    save_checkpoint(tiny.components(tiny.CONFIG), tmp_path / "narrow")
    state, _ = read_safetensors(tmp_path / "narrow" / ADAPTER)
    write_safetensors(tmp_path / "narrow" / ADAPTER, state, {"instructx-1": narrow.to_json()})
    with pytest.raises(
        CheckpointError, match=r"takes hidden states of width 40, but the MLLM in .* has 32; give the MLLM"
    ):
        Editor.from_pretrained(tmp_path / "narrow", device="cpu")


@pytest.mark.usefixtures("unread")
def test_base_models_that_are_missing_or_something_else(whole: Path, apart: Path):
    for missing in ("transformer", "vae", "mllm"):
        with pytest.raises(CheckpointError, match=rf"of its own; give the one .*\({missing}=PATH, .* --{missing} PATH"):
            load(apart, whole, **{missing: None})
    with pytest.raises(CheckpointError, match="does not hold a Wan VAE: it is a Wan DiT"):
        load(apart, whole, vae=apart / "dit")
    with pytest.raises(CheckpointError, match="there is no file"):
        load(apart, whole, mllm=apart / "nowhere")
    with pytest.raises(CheckpointError, match="has no 'instructx-1' in its metadata"):
        Editor.from_pretrained(apart / "dit", device="cpu")


@pytest.mark.usefixtures("unread")
def test_a_dit_without_a_text_embedding(whole: Path, apart: Path, tmp_path: Path):
    folder = shutil.copytree(whole / "transformer", tmp_path / "transformer")
    state, _ = read_safetensors(whole / DIT)
    del state["condition_embedder.text_embedder.linear_1.weight"]
    write_safetensors(folder / "diffusion_pytorch_model.safetensors", state, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"not a complete Wan DiT: .*text_embedder.linear_1.weight is missing"):
        load(apart, whole, transformer=folder)


def test_a_vae_of_a_published_size_as_a_file(whole: Path, apart: Path, tmp_path: Path):
    """The scale of its latents is then Wan2.1's, whatever the folder that it is from says."""
    state, _ = read_safetensors(whole / "vae" / "diffusion_pytorch_model.safetensors")
    write_safetensors(tmp_path / "vae", vae_to_original(state))
    assert load(apart, whole, vae=tmp_path / "vae").codec.std.flatten()[0] == pytest.approx(2.8184)
