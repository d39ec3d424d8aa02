"""A Wan DiT in every form in which people keep one: read by what is in it, against diffusers, gguf and ComfyUI."""

from __future__ import annotations

import builtins
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from instructx_core.errors import CheckpointError
from instructx_core.weights.detect import find_form
from instructx_core.weights.dit import load_dit
from instructx_core.weights.files import write_safetensors
from instructx_core.weights.parts import Names, Part
from instructx_core.weights.wan_keys import dit_to_original
from support import tiny
from support.dit_forms import FILES, State, forward_inputs, shaken_dit
from support.weight_forms import E4M3, in_shards, write_gguf

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel


@pytest.fixture(scope="module")
def dit() -> WanTransformer3DModel:
    return shaken_dit()


@pytest.fixture(scope="module")
def original(dit: WanTransformer3DModel) -> State:
    return dit_to_original(dit.state_dict())


def unscaled(state: State) -> State:
    """The values of such a file, by ComfyUI's rule (QUANTIZATION.md): dequantised = stored * scale."""
    plain = {}
    for name, value in state.items():
        scale = [state[key] for key in (name.replace(".weight", end) for end in (".scale_weight", ".weight_scale"))
                 if key in state and key != name]  # fmt: skip
        if name.rpartition(".")[2] in ("weight", "bias", "modulation"):
            plain[name.removeprefix("model.diffusion_model.")] = value.float() * (scale[0] if scale else 1)
    return plain


@pytest.mark.parametrize("form", FILES)
def test_a_file_of_original_names(form: str, original: State, tmp_path: Path):
    stored = FILES[form](original)
    path = tmp_path / "weights"  # neither its name nor an ending says anything
    write_safetensors(path, stored)
    read = dit_to_original(load_dit(find_form(path, Part.DIT), torch.float32).state_dict())
    expected = unscaled(stored)
    assert read.keys() == expected.keys() == original.keys()
    for name, value in expected.items():
        assert read[name].dtype == torch.float32 and torch.equal(read[name], value), name
        # and it is still the model: 8-bit floats of 3 or 2 bits of mantissa are off by a sixteenth or an eighth at most
        assert (read[name] - original[name]).abs().max() <= original[name].abs().max() / 8, name


@pytest.mark.parametrize("names", [Names.LIBRARY, Names.ORIGINAL])
def test_shards(names: Names, dit: WanTransformer3DModel, original: State, tmp_path: Path):
    """As Wan's own repositories keep the DiT, and diffusers without its config."""
    state = original if names is Names.ORIGINAL else dit.state_dict()
    folder = in_shards(state, tmp_path / "dit")
    assert find_form(folder).names is names
    read = load_dit(find_form(folder, Part.DIT), torch.float32).state_dict()
    assert all(torch.equal(read[name], value) for name, value in dit.state_dict().items())
    (folder / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"00002-of-00002.* is missing \(1 of 2 shards\)"):
        load_dit(find_form(folder, Part.DIT), torch.float32)


def test_a_file_is_the_folder_that_diffusers_reads(dit: WanTransformer3DModel, original: State, tmp_path: Path):
    """The same types and buffers as from_pretrained: a few layers stay in float32."""
    dit.save_pretrained(tmp_path / "folder")
    write_safetensors(tmp_path / "file", original)
    folder, file = (
        load_dit(find_form(tmp_path / "folder", Part.DIT), torch.bfloat16),
        load_dit(find_form(tmp_path / "file", Part.DIT), torch.bfloat16),
    )
    one, other = folder.state_dict(), file.state_dict()
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert other[name].dtype == value.dtype and torch.equal(other[name], value), name
    assert {value.dtype for value in other.values()} == {torch.bfloat16, torch.float32}
    for name, value in folder.named_buffers():
        assert torch.equal(file.get_buffer(name), value), name


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "BF16"])
@torch.no_grad()
def test_gguf(kind: str, dit: WanTransformer3DModel, original: State, tmp_path: Path):
    values = write_gguf(original, tmp_path / "weights", kind)
    model = load_dit(find_form(tmp_path / "weights", Part.DIT), torch.float32)
    packed = model.blocks[0].attn1.to_q.weight
    assert packed.dtype == torch.uint8 and packed.nbytes < dit.blocks[0].attn1.to_q.weight.nbytes
    write_safetensors(tmp_path / "unpacked", values)
    inputs = forward_inputs()
    expected = load_dit(find_form(tmp_path / "unpacked", Part.DIT), torch.float32)(**inputs).sample
    # diffusers unpacks into float16, the library gguf into float32
    assert (model(**inputs).sample - expected).abs().max() < 1e-3 * expected.abs().max()


def test_gguf_unpacks_what_diffusers_would_not(original: State, tmp_path: Path):
    """Modulation and convolutions that a converter has put into bfloat16, which GGUF keeps as bytes."""
    gguf = pytest.importorskip("gguf", reason="THE PACKAGE gguf IS MISSING: GGUF weights were not tried")
    writer = gguf.GGUFWriter(str(tmp_path / "weights"), "wan")
    kind = gguf.GGMLQuantizationType.BF16
    for name, value in original.items():
        writer.add_tensor(name, gguf.quants.quantize(value.float().numpy(), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model = load_dit(find_form(tmp_path / "weights", Part.DIT), torch.float32)
    table = model.blocks[0].scale_shift_table
    assert torch.equal(table, original["blocks.0.modulation"].bfloat16().float())
    assert model(**forward_inputs()).sample.isfinite().all()


# --- what is refused


def test_a_form_of_packed_blocks_is_refused(original: State, tmp_path: Path):
    """NVFP4 as ComfyUI writes it: two numbers in a byte, a scale for each 16."""
    state = dict(original)
    name = "blocks.0.self_attn.q.weight"
    rows, columns = state[name].shape
    state[name] = torch.zeros(rows, columns // 2, dtype=torch.uint8)
    state["blocks.0.self_attn.q.weight_scale"] = torch.ones(rows, columns // 16).to(E4M3)
    write_safetensors(tmp_path / "weights", state)
    with pytest.raises(CheckpointError, match=r"stores 'blocks.0.self_attn.q.weight' as U8, packed"):
        load_dit(find_form(tmp_path / "weights", Part.DIT), torch.float32)
    state[name] = torch.zeros(rows, columns).to(E4M3)
    write_safetensors(tmp_path / "weights", state)
    with pytest.raises(CheckpointError, match="self_attn.q.weight' as F8_E4M3, with block scales"):
        load_dit(find_form(tmp_path / "weights", Part.DIT), torch.float32)


def test_a_gap_and_what_is_too_much_are_named(original: State, tmp_path: Path):
    path = tmp_path / "weights"
    write_safetensors(path, {name: value for name, value in original.items() if name != "blocks.1.ffn.2.bias"})
    with pytest.raises(CheckpointError, match=r"not a complete Wan DiT: blocks.1.ffn.net.2.bias is missing"):
        load_dit(find_form(path, Part.DIT), torch.float32)
    write_safetensors(path, original | {"vace_blocks.0.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="'vace_blocks.0.weight'"):
        load_dit(find_form(path, Part.DIT), torch.float32)


def test_another_width_of_heads_needs_a_config(tmp_path: Path):
    write_safetensors(tmp_path / "weights", dit_to_original(tiny.transformer().state_dict()))
    with pytest.raises(CheckpointError, match="width, 24, is not a multiple of 128"):
        load_dit(find_form(tmp_path / "weights", Part.DIT), torch.float32)
    tiny.transformer().save_pretrained(tmp_path / "folder")
    assert load_dit(find_form(tmp_path / "folder", Part.DIT), torch.float32).config.num_attention_heads == 2


def test_a_cut_gguf_and_a_missing_package(original: State, tmp_path: Path, monkeypatch):
    path = tmp_path / "weights"
    write_gguf(original, path, "Q8_0")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        load_dit(find_form(path, Part.DIT), torch.float32)

    def without_gguf(name: str, *args, **kwargs):
        if name == "gguf":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", without_gguf)
    with pytest.raises(CheckpointError, match="needs the package gguf; install it with `pip install gguf`"):
        load_dit(find_form(path, Part.DIT), torch.float32)


def test_other_things(dit: WanTransformer3DModel, original: State, tmp_path: Path):
    with pytest.raises(CheckpointError, match="there is no file"):
        load_dit(find_form(tmp_path / "nowhere", Part.DIT), torch.float32)
    with pytest.raises(CheckpointError, match=r"has no .safetensors weights"):
        load_dit(find_form(tmp_path, Part.DIT), torch.float32)
    write_safetensors(tmp_path / "vae", {"encoder.conv1.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"does not hold a Wan DiT: it holds 'encoder.conv1.weight'"):
        load_dit(find_form(tmp_path / "vae", Part.DIT), torch.float32)
    dit.save_pretrained(tmp_path / "pipeline" / "transformer")
    assert load_dit(find_form(tmp_path / "pipeline", Part.DIT), torch.float32).config.num_layers == 2
    shutil.copytree(tmp_path / "pipeline" / "transformer", tmp_path / "pipeline" / "transformer_2")
    with pytest.raises(CheckpointError, match="a pair of DiTs.*give one of these two folders"):
        load_dit(find_form(tmp_path / "pipeline", Part.DIT), torch.float32)
    for name in ("a", "b"):
        write_safetensors(tmp_path / f"{name}.safetensors", original)
    with pytest.raises(CheckpointError, match="holds several models.*give one of the files"):
        find_form(tmp_path, Part.DIT)
