"""Every form that is read, converted and planned: as the model that it loads as, or a sentence that says why not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from instructx_core.cli import main
from instructx_core.convert import convert
from instructx_core.convert.native_files import dit_file
from instructx_core.errors import CheckpointError
from instructx_core.families.overrides import Overrides
from instructx_core.memory.sizes import sizes_of
from instructx_core.training.new_model import make_model
from instructx_core.weights.detect import find_form
from instructx_core.weights.dit import load_dit
from instructx_core.weights.files import read_safetensors, write_safetensors
from instructx_core.weights.marks import ADAPTER
from instructx_core.weights.parts import Part
from instructx_core.weights.stored import DTYPES
from instructx_core.weights.wan_keys import dit_to_original, vae_to_original
from support import kiwi_model
from support.kiwi_trained import as_trained, spelled, taken_off
from support.opening import added, load, outlined
from support.same import assert_same, assert_same_model, weights
from support.weight_forms import E4M3, in_shards, old_names, scaled, write_gguf

DIT = "transformer/diffusion_pytorch_model.safetensors"
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def apart(whole: Path, tmp_path_factory) -> Path:
    """Its parts in every form: DiTs, VAEs in folders that tell their scale, MLLMs; and what was trained, alone."""
    folder = tmp_path_factory.mktemp("apart")
    shutil.copy(whole / ADAPTER, folder / "mine.safetensors")
    original = dit_to_original(read_safetensors(whole / DIT)[0])
    prefixed = {f"model.diffusion_model.{name}": value for name, value in original.items()}
    dits = {
        "dit": original,
        "dit-prefix": prefixed,
        "dit-bf16": {name: value.bfloat16() for name, value in original.items()},
        "dit-fp8": {name: value.to(E4M3) if value.ndim == 2 else value for name, value in original.items()},
        "dit-scaled-old": scaled(original, "old"),
        "dit-scaled-new": scaled(prefixed, "new"),
    }
    mllm = old_names(read_safetensors(whole / "mllm" / "model.safetensors")[0])
    headless = {name: value for name, value in mllm.items() if name != "lm_head.weight"}
    mllms = {"qwen": mllm, "qwen-headless": headless, "qwen-fp8": {k: v.to(E4M3) for k, v in mllm.items()},
             "qwen-scaled": scaled(headless, "new")}  # fmt: skip
    for name, state in dits.items():
        write_safetensors(folder / name, state)
    in_shards(original, folder / "dit-shards")
    in_shards(read_safetensors(whole / DIT)[0], folder / "pipeline" / "transformer")
    shutil.copy(whole / "transformer" / "config.json", folder / "pipeline" / "transformer")
    for name, state in mllms.items():
        (folder / name).mkdir()
        write_safetensors(folder / name / "file", state)
        for small in (whole / "mllm").glob("*.json"):
            shutil.copy(small, folder / name)
    shutil.copytree(whole / "vae", folder / "wan-vae")
    state, _ = read_safetensors(folder / "wan-vae" / "diffusion_pytorch_model.safetensors")
    write_safetensors(folder / "wan-vae" / "diffusion_pytorch_model.safetensors", vae_to_original(state))
    return folder


FORMS = {
    "dit": "transformer", "dit-prefix": "transformer", "dit-bf16": "transformer", "dit-fp8": "transformer",
    "dit-scaled-old": "transformer", "dit-scaled-new": "transformer", "dit-shards": "transformer",
    "pipeline": "transformer", "wan-vae": "vae", "qwen/file": "mllm", "qwen-headless/file": "mllm",
    "qwen-fp8/file": "mllm", "qwen-scaled/file": "mllm",
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_model_with_a_part_in_any_form(form: str, whole: Path, apart: Path, tmp_path: Path):
    base = Overrides(**{FORMS[form]: apart / form})
    convert(whole, tmp_path / "own", base)
    # what has a scale is rounded to bfloat16 once, as it is where a GPU computes with it
    for dtype in [torch.bfloat16] if "scaled" in form else [torch.float32, torch.bfloat16]:
        assert_same_model(tmp_path / "own", whole, base, dtype)


@pytest.mark.parametrize(
    "form", [form if form == "qwen-scaled/file" else pytest.param(form, marks=pytest.mark.slow) for form in FORMS]
)
def test_a_new_model_on_a_part_in_any_form(form: str, whole: Path, apart: Path, tmp_path: Path):
    """`instructx new`: base weights are what loading makes of that form."""
    parts = {part: whole / part for part in ("transformer", "vae", "mllm")} | {FORMS[form]: apart / form}
    make_model(tmp_path / "new", **parts, changes=("guidance.lora_rank=2", "guidance.max_pixels=6272"))
    new = load(tmp_path / "new", dtype=torch.bfloat16)
    old = load(whole, dtype=torch.bfloat16, base=Overrides(**{FORMS[form]: apart / form}))
    pairs = [(new.denoiser.transformer, old.denoiser.transformer), (new.codec, old.codec)]
    for first, second in [*pairs, (new.guidance.mllm, old.guidance.mllm)]:
        found, expected = (
            {k.replace(".base_layer.", "."): v for k, v in part.state_dict().items() if "lora_" not in k}
            for part in (first, second)
        )
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_what_was_trained_alone_and_all_of_its_base_models(whole: Path, apart: Path, tmp_path: Path, capsys):
    base = {"transformer": apart / "dit", "vae": apart / "wan-vae", "mllm": apart / "qwen" / "file"}
    options = [word for part, path in base.items() for word in (f"--{part}", str(path))]
    command = ["convert", str(apart / "mine.safetensors"), str(tmp_path / "own")]
    assert main(command) == 2 and "has no Wan DiT of its own; give the one" in capsys.readouterr().err
    assert main([*command, *options]) == 0
    assert_same_model(tmp_path / "own", apart / "mine.safetensors", Overrides(**base), torch.float32)
    found, expected = weights(tmp_path / "own"), weights(whole)
    expected["mllm/model.safetensors"] = old_names(expected["mllm/model.safetensors"])
    assert_same(found, expected)


def test_there_and_back_in_comfyui_s_files(whole: Path, apart: Path, tmp_path: Path):
    """One file for UNETLoader and one adapter, and from these two the model again."""
    convert(whole, tmp_path / "dit.safetensors")
    convert(whole, tmp_path / "adapter" / ADAPTER)
    base = Overrides(tmp_path / "dit.safetensors", whole / "vae", whole / "mllm")
    convert(tmp_path / "adapter" / ADAPTER, tmp_path / "own", base)
    assert_same(weights(tmp_path / "own"), weights(whole))


@pytest.mark.parametrize("form", ["dit", "dit-prefix", "dit-shards", "pipeline", "dit-fp8", "dit-scaled-new"])
def test_a_dit_alone_of_any_form_as_one_plain_file(form: str, apart: Path, tmp_path: Path):
    convert(apart / form, tmp_path / "plain.safetensors")
    found, original = (read_safetensors(path)[0] for path in (tmp_path / "plain.safetensors", apart / "dit"))
    stored = read_safetensors(apart / form)[0] if (apart / form).is_file() else original
    assert found.keys() == original.keys()
    for name, value in found.items():
        there = stored.get(name, stored.get(f"model.diffusion_model.{name}"))
        scale = stored.get(f"model.diffusion_model.{name}_scale")
        expected = there if scale is None else (there.float() * scale).bfloat16()
        assert value.dtype == expected.dtype and torch.equal(value, expected), name


# --- planned without reading


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("form", [*FORMS, "dit-gguf"])
def test_an_outline_has_the_sizes_of_what_is_loaded(
    form: str, dtype: torch.dtype, whole: Path, apart: Path, tmp_path: Path
):
    base = Overrides(**{FORMS.get(form, "transformer"): apart / form})
    if form == "dit-gguf":
        write_gguf(read_safetensors(apart / "dit")[0], tmp_path / form, "Q8_0")
        base = Overrides(tmp_path / form)
    assert sizes_of(outlined(whole, dtype, base)) == sizes_of(load(whole, dtype=dtype, base=base))


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """A plan's lines, but for what is free."""
    return [line for line in capsys.readouterr().out.splitlines() if not line.startswith("main memory: ")]


def test_a_plan_of_weights_that_lie_elsewhere(whole: Path, apart: Path, capsys, monkeypatch):
    def fail(*_args, **_options):
        raise AssertionError("weights were read")

    monkeypatch.setattr("instructx_core.weights.library_load.load_or_explain", fail)
    monkeypatch.setattr("instructx_core.weights.files.load_file", fail)
    plan = ["info", "--plan", "--width", "64", "--height", "64", "--frames", "5", "--vram", "1"]
    assert main([*plan, str(whole)]) == 0
    expected = told(capsys)
    plan += [str(apart / "mine.safetensors"), "--transformer", str(apart / "dit"), "--vae", str(apart / "wan-vae")]
    assert main(plan) == 2 and "has no Qwen2.5-VL of its own; give the one" in capsys.readouterr().err
    assert main([*plan, "--mllm", str(apart / "qwen" / "file")]) == 0
    assert told(capsys) == expected
    assert main(["info", str(whole), "--vae", str(apart / "wan-vae")]) == 2
    assert "--vae is for --plan; add --plan" in capsys.readouterr().err


# --- training checkpoints


@pytest.fixture(scope="module")
def kiwi_like(tmp_path_factory) -> Path:
    """A random Kiwi-Edit with heads of 128 as published; read-only."""
    folder = tmp_path_factory.mktemp("kiwi") / "published"
    kiwi_model.publish(kiwi_model.components(), folder)
    return folder


@pytest.mark.parametrize("trained", ["whole DiT", "LoRA"])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, E4M3], ids=str)
def test_a_training_checkpoint_becomes_a_model(trained: str, stored: torch.dtype, kiwi_like: Path, tmp_path: Path):
    """LoRA of MLLM and DiT are merged: what is computed is what loading computes."""
    dit = dit_to_original(read_safetensors(kiwi_like / DIT)[0])
    mllm, metadata = read_safetensors(kiwi_like / "mllm_encoder" / "model.safetensors")
    state = as_trained(added(kiwi_like))
    if trained == "whole DiT":
        state |= {f"dit.{name}": value.bfloat16() for name, value in dit.items()}
    else:
        dit, pairs = taken_off(dit, [name for name in dit if name.endswith("self_attn.q.weight")])
        state |= spelled(pairs, "dit.")
    targets = [name for name in mllm if name.endswith("self_attn.q_proj.weight") and "visual" not in name]
    mllm, pairs = taken_off(mllm, targets)
    pairs = {"model.language_model." + name.split("model.")[-1]: pair for name, pair in pairs.items()}
    state |= spelled(pairs, "mllm.model.")
    write_safetensors(tmp_path / "step", state)
    write_safetensors(tmp_path / "dit", {k: v.to(stored) if v.ndim == 2 else v for k, v in dit.items()})
    shutil.copytree(kiwi_like / "processor", tmp_path / "qwen")
    write_safetensors(tmp_path / "qwen" / "file", {k: v.to(stored) for k, v in mllm.items()}, metadata)
    base = Overrides(tmp_path / "dit", kiwi_like / "vae", tmp_path / "qwen" / "file")
    assert sizes_of(outlined(tmp_path / "step", torch.float32, base)) == sizes_of(load(tmp_path / "step", base=base))
    convert(tmp_path / "step", tmp_path / "own", base)
    # it is merged in the type in which it is stored, or in bfloat16 for 8 bits
    dtype = torch.float32 if stored is torch.float32 else torch.bfloat16
    assert_same_model(tmp_path / "own", tmp_path / "step", base, dtype)
    convert(tmp_path / "step", tmp_path / "dit.safetensors", Overrides(tmp_path / "dit"))
    native = read_safetensors(tmp_path / "dit.safetensors")[0]
    merged = dit_to_original(read_safetensors(tmp_path / "own" / DIT)[0])
    assert {*native} - {*merged} == {name for name in native if "vae_condition" in name} != set()
    assert all(torch.equal(native[name], value) for name, value in merged.items())
    with pytest.raises(CheckpointError, match=r"step' holds a LoRA for its MLLM, .*give a folder to write"):
        convert(tmp_path / "step", tmp_path / ADAPTER)


def without(state: State, part: str) -> State:
    return {name: value for name, value in state.items() if part not in name}


# what is wrong -> the checkpoint and the DiT that it is for, from a LoRA, a whole DiT and the DiT; and what is said
FAULTS: dict[str, tuple[Callable[[State, State, State], tuple[State, State]], str]] = {
    "no such block": (lambda lora, _, dit: (lora, without(dit, "blocks.1.")), r"has a LoRA for blocks.1.*is missing"),
    "another width": (
        lambda lora, _, dit: ({k: v[:, :-1].clone() if "lora_A" in k else v for k, v in lora.items()}, dit),
        r"of \(128, 127\), but in .* the weight is \(128, 128\)",
    ),
    "two ranks": (
        lambda lora, _, dit: ({k: v[:-1].clone() if "lora_A" in k else v for k, v in lora.items()}, dit),
        r"of \(3, 128\) and \(128, 4\), which are not two matrices of the same rank",
    ),
    "no matrix": (
        lambda lora, _, dit: ({k: v[..., None] if "lora_B" in k else v for k, v in lora.items()}, dit),
        r"of \(4, 128\) and \(128, 4, 1\), which are not two matrices of the same rank",
    ),
    "whole numbers": (lambda lora, _, dit: ({k: v.int() for k, v in lora.items()}, dit), "as I32, expected floats"),
    "a gap": (
        lambda _, whole, dit: (without(whole, "blocks.1.ffn"), dit),
        r"step' is not a complete Wan DiT: blocks.1",
    ),
    "a DiT of whole numbers": (
        lambda _, whole, dit: ({k: v.int() if v.ndim == 2 else v for k, v in whole.items()}, dit),
        r"step' stores .* as I32",
    ),
}


@pytest.mark.parametrize("fault", [*FAULTS, "gguf"])
def test_what_was_trained_and_does_not_fit(fault: str, kiwi_like: Path, tmp_path: Path):
    """Editing, planning and converting say the same before any weight is read, and leave nothing."""
    dit = dit_to_original(read_safetensors(kiwi_like / DIT)[0])
    lora = spelled(taken_off(dit, [name for name in dit if name.endswith("self_attn.q.weight")])[1], "dit.")
    change, match = FAULTS.get(fault, (lambda lora, _whole, dit: (lora, dit), "a LoRA, which GGUF weights cannot take"))
    trained, dit = change(lora, {f"dit.{name}": value for name, value in dit.items()}, dit)
    write_safetensors(tmp_path / "step", as_trained(added(kiwi_like)) | trained)
    write_gguf(dit, tmp_path / "dit", "Q8_0") if fault == "gguf" else write_safetensors(tmp_path / "dit", dit)
    base, alone = Overrides(tmp_path / "dit", kiwi_like / "vae", kiwi_like), Overrides(tmp_path / "dit")
    for call in (
        lambda: load(tmp_path / "step", base=base),
        lambda: outlined(tmp_path / "step", torch.float32, base),
        lambda: convert(tmp_path / "step", tmp_path / "own", base),
        lambda: convert(tmp_path / "step", tmp_path / "dit.safetensors", alone),
    ):
        with pytest.raises(CheckpointError, match=match):
            call()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dit", "step"]


# --- in little memory


def peak() -> int:
    """The most memory that this process has had since the peak was last reset, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def grown(file: Path) -> tuple[int, int]:
    """How much is written where a DiT is converted, and by how much the process grows, in bytes."""
    torch.set_num_threads(1)
    content = dit_file(find_form(file, Part.DIT), False)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = peak()
    return sum(map(len, content.chunks())), peak() - before


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the peak of a process's memory")
def test_memory_is_that_of_a_tensor(tmp_path: Path):
    """DiTs that take no room on the disk, of which no more is in memory at once than the copies of one tensor."""
    from accelerate import init_empty_weights
    from diffusers import WanTransformer3DModel

    with init_empty_weights():
        model = WanTransformer3DModel(num_attention_heads=8, in_channels=16, text_dim=64, ffn_dim=2048, num_layers=4)
    shapes = {name: tuple(value.shape) for name, value in dit_to_original(model.state_dict()).items()}
    files = [tmp_path / kind for kind in ("BF16", "F8_E4M3")]
    for file in files:
        write_holes(file, shapes, file.name)
    # a process of its own, and a fork: importing everything again takes longer than the test
    with ProcessPoolExecutor(1, get_context("fork")) as pool:
        for written, more in pool.map(grown, files):
            assert written > 100e6 and more < 70e6


def write_holes(path: Path, shapes: dict[str, tuple[int, ...]], kind: str) -> None:
    """A safetensors file of zeros that takes no room on the disk; of 8-bit floats with a scale for each matrix."""
    header, end = {}, 0
    for name, shape in shapes.items():
        entries = {name: (kind, shape)}
        if kind.startswith("F8") and len(shape) == 2 and name.endswith(".weight"):
            entries[name.replace(".weight", ".scale_weight")] = ("F32", ())
        for key, (dtype, sizes) in entries.items():
            start, end = end, end + torch.Size(sizes).numel() * DTYPES[dtype].itemsize
            header[key] = {"dtype": dtype, "shape": list(sizes), "data_offsets": [start, end]}
    said = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(said).to_bytes(8, "little") + said)
        file.truncate(8 + len(said) + end)


def test_gguf_is_unpacked(whole: Path, apart: Path, tmp_path: Path):
    values = write_gguf(read_safetensors(apart / "dit")[0], tmp_path / "dit.gguf", "Q8_0")
    convert(tmp_path / "dit.gguf", tmp_path / "dit.safetensors")
    written = read_safetensors(tmp_path / "dit.safetensors")[0]
    assert written.keys() == values.keys()
    for name, value in written.items():
        assert value.dtype in (torch.bfloat16, torch.float32)
        assert torch.equal(value, values[name].to(value.dtype)), name
    convert(whole, tmp_path / "own", Overrides(tmp_path / "dit.gguf"))
    dit = find_form(tmp_path / "own", Part.DIT)
    assert dit.is_library_folder
    read = dit_to_original(load_dit(dit, torch.float32).state_dict())
    assert all(torch.equal(value.float(), read[name]) for name, value in written.items())


# --- what is refused


def test_base_models_that_do_not_fit(whole: Path, apart: Path, saved: Path, tmp_path: Path):
    def refused(match: str, **base: Path) -> None:
        with pytest.raises(CheckpointError, match=match):
            convert(whole, tmp_path / "own", Overrides(**base))
        assert not (tmp_path / "own").exists()

    refused(r"makes a context of width 128, but the DiT in .* takes 24", transformer=saved / "transformer")
    refused(r"the VAE in .* makes 4 channels", vae=saved / "vae")
    refused(r"wan-vae' does not hold a Qwen2.5-VL: it is a Wan VAE", mllm=apart / "wan-vae")
    state, _ = read_safetensors(apart / "dit")
    write_safetensors(tmp_path / "gap", {name: value for name, value in state.items() if name != "head.head.bias"})
    refused(r"gap' is not a complete Wan DiT: proj_out.bias is missing", transformer=tmp_path / "gap")
    state, metadata = read_safetensors(apart / "qwen" / "file")
    (gap := tmp_path / "qwen").mkdir()
    for small in (whole / "mllm").glob("*.json"):
        shutil.copy(small, gap)
    name = next(name for name in state if name.endswith("layers.1.mlp.up_proj.weight") and "visual" not in name)
    write_safetensors(gap / "model.safetensors", {**state, name: state[name][:-1]}, metadata)
    refused(r"qwen' does not fit its config: layers.1.mlp.up_proj.weight is \(47, 32\), expected \(48, 32\)", mllm=gap)


def test_an_adapter_that_does_not_fit_its_config(model: Path, tmp_path: Path):
    state, metadata = read_safetensors(model / ADAPTER)
    write_safetensors(model / ADAPTER, state | {"queries.image": state["queries.image"][:-1]}, metadata)
    with pytest.raises(
        CheckpointError, match=r"does not fit its config: queries.image is \(2, 32\), expected \(3, 32\)"
    ):
        convert(model, tmp_path / "own", Overrides(vae=model / "vae"))
