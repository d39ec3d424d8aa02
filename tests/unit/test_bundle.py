"""A model folder: the same bytes out as in, complete or not there, and clear about what is wrong with it."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from instructx_core.config import ContextEntry, ModelConfig, SourceInjection
from instructx_core.errors import CheckpointError, InputError
from instructx_core.families.components import Components
from instructx_core.families.configs import read_config
from instructx_core.families.instructx import folder
from instructx_core.families.instructx.folder import save_checkpoint
from instructx_core.families.tiny.config import TinyConfig, TinySettings
from instructx_core.weights.files import read_metadata, read_safetensors, write_safetensors
from instructx_core.weights.marks import ADAPTER
from instructx_core.weights.mllm import portable_rope
from support import tiny
from support.opening import config_of, load
from support.same import assert_same_tensors, tensors

WEIGHTS = {
    "mllm": "mllm/model.safetensors",
    "transformer": "transformer/diffusion_pytorch_model.safetensors",
    "vae": "vae/diffusion_pytorch_model.safetensors",
    "adapter": ADAPTER,
}
WITHOUT_LORA = replace(
    tiny.with_source(SourceInjection.EMBEDDING),
    guidance=replace(tiny.CONFIG.guidance, reference_queries=4, lora_rank=0),
)
VARIANTS = {
    "latent, lora": tiny.CONFIG,
    "embedding, reference queries, no lora": WITHOUT_LORA,
    "width": tiny.with_entry(ContextEntry.WIDTH),
    "tiny": TinyConfig(**vars(tiny.CONFIG), tiny=TinySettings("change", 0.3, 0.2, ("grayscale",))),
}


def contents(folder: Path) -> dict[str, bytes]:
    """All files but one that transformers 4 writes beside tokenizer.json, and differently after loading."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "special_tokens_map.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# --- round trip


@pytest.mark.parametrize("variant", VARIANTS)
def test_round_trip_is_bit_exact(variant: str, tmp_path: Path):
    before = tiny.components(VARIANTS[variant], seed=3)
    save_checkpoint(before, tmp_path / "first")
    after = load(tmp_path / "first")
    assert after.config == before.config
    assert_same_tensors(after, before)
    save_checkpoint(after, tmp_path / "second")
    assert contents(tmp_path / "second") == contents(tmp_path / "first")


@pytest.mark.parametrize("variant", VARIANTS)
def test_round_trip_in_bfloat16(variant: str, tmp_path: Path):
    exact = tiny.components(VARIANTS[variant], seed=3)
    save_checkpoint(exact, tmp_path / "exact")
    half = load(tmp_path / "exact", dtype=torch.bfloat16)
    assert half.guidance.queries["image"].dtype == half.denoiser.dtype == half.codec.vae.dtype == torch.bfloat16
    assert {value.dtype for value in half.connector.parameters()} == {torch.bfloat16}
    for name, value in tensors(half).items():
        assert torch.equal(value, tensors(exact)[name].to(value.dtype)), name
    save_checkpoint(half, tmp_path / "first")
    again = load(tmp_path / "first", dtype=torch.bfloat16)
    assert_same_tensors(again, half)
    save_checkpoint(again, tmp_path / "second")
    assert contents(tmp_path / "second") == contents(tmp_path / "first")


def test_positions_keep_their_precision_in_bfloat16(saved: Path, tiny_components: Components):
    """Rotary frequencies are no weights: in bfloat16 far places would run together."""
    half = load(saved, dtype=torch.bfloat16)
    checked = 0
    for part in ("guidance", "denoiser"):
        exact = dict(getattr(tiny_components, part).named_buffers())
        for name, value in getattr(half, part).named_buffers():
            assert torch.equal(value, exact[name]), name
            checked += 1
    assert checked >= 4  # MLLM, its vision tower, the DiT's cosines and sines


def test_a_loaded_model_thinks_the_same(saved: Path, tiny_components: Components):
    loaded = load(saved)
    results = []
    for components in (tiny_components, loaded):
        guidance, connector = components.guidance, components.connector
        assert not any(module.training for module in (guidance, connector, components.denoiser, components.codec))
        inputs = guidance.prepare(["make it BLUE, déjà vu"], [tiny.clip(1)])
        context = connector(guidance(inputs))
        latents = components.codec.encode(tiny.clip(5, 16, 16)[None])
        denoiser = components.denoiser
        results.append(denoiser(latents, torch.tensor(0.5), context, denoiser.conditions(latents)))
    torch.testing.assert_close(*results, atol=1e-6, rtol=1e-6)  # memory lies otherwise, and sums run in another order
    assert not any(value.requires_grad for value in loaded.guidance.parameters())


def test_layout_of_the_folder(saved: Path, tiny_components: Components):
    files = set(contents(saved))
    assert set(WEIGHTS.values()) <= files
    assert {"mllm/config.json", "mllm/tokenizer.json", "transformer/config.json", "vae/config.json"} <= files
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pth", ".pkl", ".ckpt"))]
    (text,) = read_metadata(saved / ADAPTER).values()
    assert read_config(text) == config_of(saved) == tiny_components.config
    state, _ = read_safetensors(saved / ADAPTER)
    assert {name.split(".")[0] for name in state} == {"queries", "lora", "connector"}
    base, _ = read_safetensors(saved / WEIGHTS["mllm"])
    assert not [name for name in base if "lora" in name or "base_layer" in name]
    # each folder is what its own library reads
    qwen, _ = type(tiny.mllm()).from_pretrained(saved / "mllm", output_loading_info=True)
    assert torch.equal(qwen.lm_head.weight, tiny_components.guidance.mllm.lm_head.weight)


def test_a_folder_tells_nothing_about_this_machine(saved: Path, tmp_path: Path):
    save_checkpoint(load(saved), tmp_path / "again")
    for name, content in contents(tmp_path / "again").items():
        if name.endswith(".json"):
            assert str(saved.parent).encode() not in content and str(Path.home()).encode() + b"/" not in content, name


def test_rotary_settings_of_transformers_5_in_the_words_of_4():
    written = {"rope_type": "default", "rope_theta": 10.0, "mrope_section": [2, 3, 3]}
    old = SimpleNamespace(text_config=SimpleNamespace(rope_parameters=written, rope_scaling=None, rope_theta=1e6))
    text = portable_rope(old).text_config
    assert text.rope_theta == 10.0 and text.rope_scaling == {"rope_type": "default", "mrope_section": [2, 3, 3]}


# --- atomic


def test_a_failed_save_leaves_the_older_model(model: Path, tiny_components: Components, monkeypatch):
    before = contents(model)

    def fail(*args: object, **options: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(tiny_components.codec.vae, "save_pretrained", fail)
    with pytest.raises((OSError, InputError)):
        save_checkpoint(tiny_components, model)
    assert contents(model) == before
    assert [path.name for path in model.parent.iterdir()] == ["model"]


def test_a_save_replaces_the_whole_folder(model: Path, tiny_components: Components):
    (model / "left over.txt").touch()
    save_checkpoint(tiny_components, model)
    assert not (model / "left over.txt").exists()
    assert config_of(model) == tiny_components.config


def test_a_reader_leaves_a_writer_s_folder_alone(model: Path):
    partial = model.with_name(".model.0123456789ab.partial")
    partial.mkdir()
    config_of(model)
    assert partial.is_dir()


def test_an_older_model_that_stepped_aside_comes_back(model: Path):
    model.rename(model.with_name(".model.0123456789ab.old"))
    assert config_of(model).name == "random" and model.is_dir()


# --- what is wrong with it


@pytest.mark.parametrize("part", WEIGHTS)
def test_a_missing_file(part: str, model: Path):
    (model / WEIGHTS[part]).unlink()
    with pytest.raises(CheckpointError, match=ADAPTER if part == "adapter" else f"{part}'.*safetensors"):
        load(model)


@pytest.mark.parametrize("part", WEIGHTS)
@pytest.mark.parametrize("kept", [0, 5, 200, -1])
def test_a_truncated_file(part: str, kept: int, model: Path):
    path = model / WEIGHTS[part]
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=f"{path.name}'.*(truncated|empty|cut off)"):
        load(model)


@pytest.mark.parametrize("part", ["mllm", "transformer", "vae"])
@pytest.mark.parametrize("text", [None, "", "{", "[]", "null"])
def test_a_missing_or_damaged_config(part: str, text: str | None, model: Path):
    path = model / part / "config.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(CheckpointError, match=part) as caught:
        load(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [None, "", "{", "{}"])
def test_a_missing_or_damaged_tokenizer(text: str | None, model: Path):
    (model / "mllm" / "tokenizer.json").unlink()
    if text is not None:
        (model / "mllm" / "tokenizer.json").write_text(text)
    with pytest.raises(CheckpointError, match="mllm"):
        load(model)


@pytest.mark.parametrize("name", ["", "nowhere", "file"])
def test_no_model_folder(name: str, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=name or "not an InstructX model"):
        load(tmp_path / name)


def test_a_foreign_adapter(model: Path):
    write_safetensors(model / ADAPTER, {"weight": torch.zeros(1)}, {"format": "pt"})
    with pytest.raises(CheckpointError, match=f"{ADAPTER}.*another program"):
        load(model)


def test_a_config_of_a_newer_version(model: Path):
    state, _ = read_safetensors(model / ADAPTER)
    write_safetensors(model / ADAPTER, state, {folder.FORMAT: '{"telepathy": true}'})
    with pytest.raises(CheckpointError, match="telepathy.*newer version"):
        load(model)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (replace(tiny.CONFIG, guidance=replace(tiny.CONFIG.guidance, video_queries=6)), "queries.video"),
        (replace(tiny.CONFIG, guidance=replace(tiny.CONFIG.guidance, reference_queries=6)), "queries.reference"),
        (replace(tiny.CONFIG, guidance=replace(tiny.CONFIG.guidance, lora_rank=0)), "lora"),
        (replace(tiny.CONFIG, connector=replace(tiny.CONFIG.connector, hidden_dim=8)), "connector"),
        (tiny.with_source(SourceInjection.EMBEDDING), "denoiser.source_embedding"),
    ],
)
def test_an_adapter_that_does_not_fit_its_config(changed: ModelConfig, named: str, model: Path):
    state, _ = read_safetensors(model / ADAPTER)
    write_safetensors(model / ADAPTER, state, {folder.FORMAT: changed.to_json()})
    with pytest.raises(CheckpointError, match=f"{ADAPTER}.*{named}"):
        load(model)


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("transformer", {"num_layers": 3}),
        ("transformer", {"num_layers": 1}),
        ("transformer", {"ffn_dim": 12}),
        ("transformer", {"num_layers": "many"}),
        ("vae", {"dim_mult": [1, 1, 2, 3]}),
    ],
)
def test_weights_that_do_not_fit_their_config(part: str, changes: dict, model: Path):
    edit_json(model / part / "config.json", **changes)
    with pytest.raises(CheckpointError, match=part):
        load(model)


@pytest.mark.parametrize("layers", [1, 3])
def test_an_mllm_of_another_depth(layers: int, model: Path):
    path = model / "mllm" / "config.json"
    config = json.loads(path.read_text())
    config["text_config"] |= {"num_hidden_layers": layers, "layer_types": ["full_attention"] * layers}
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="mllm.*layers"):
        load(model)


@pytest.mark.parametrize("part", ["mllm", "transformer", "vae"])
def test_a_tensor_short(part: str, model: Path):
    """The libraries would fill it with random numbers and only warn."""
    path = model / WEIGHTS[part]
    state, metadata = read_safetensors(path)
    name = sorted(state)[len(state) // 2]
    del state[name]
    write_safetensors(path, state, metadata)
    with pytest.raises(CheckpointError, match=f"{part}'.*({name} is missing|missing .*{name})"):
        load(model)


class Bomb:
    """A pickle that shows when it is opened."""

    def __reduce__(self) -> tuple:
        return pytest.fail, ("a pickle was opened",)


def test_pickles_are_never_opened(model: Path, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *args, **options: pytest.fail("torch.load was called"))
    names = {"mllm": "pytorch_model.bin", "transformer": "diffusion_pytorch_model.bin"}
    for part, name in names.items():
        (model / part / name).write_bytes(pickle.dumps(Bomb()))
    load(model)
    for part, name in names.items():
        weights = model / WEIGHTS[part]
        hidden = weights.rename(weights.with_suffix(".hidden"))
        with pytest.raises(CheckpointError, match=f"{name}' is a pickle, which is opened only on request"):
            load(model)
        hidden.rename(weights)
        content = weights.read_bytes()
        weights.write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(CheckpointError, match="pickle"):
            load(model)
        weights.write_bytes(content)
