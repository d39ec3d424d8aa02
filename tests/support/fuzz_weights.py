"""Readers of models: weights, configs, indices, LoRA and GGUF files, what is said of them, and the hub's lists."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save

from instructx_core import Editor
from instructx_core.model_info import describe
from instructx_core.weights.hub import fetch, look_up, recorded_commit
from instructx_core.weights.loras import check_lora, load_lora
from instructx_core.weights.wan_keys import dit_to_original
from support import comfyui, golden_runs, hub_server
from support.folders import linked
from support.fuzz_judge import sound
from support.fuzz_mutate import (
    HOSTILE_NAMES,
    NASTY,
    as_json,
    mutate_bytes,
    mutate_json,
    mutate_json_file,
    mutate_safetensors,
    put,
    split_safetensors,
)
from support.fuzz_shared import WORDS, Case, Shared
from support.weight_forms import in_shards, write_gguf

DIT = "transformer/diffusion_pytorch_model.safetensors"
CONFIGS = (
    "transformer/config.json",
    "vae/config.json",
    "mllm/config.json",
    "mllm/tokenizer.json",
    "mllm/tokenizer_config.json",
)
PUBLISHED = (
    "mllm_encoder/config.json",
    "processor/qwen_config.json",
    "processor/tokenizer_config.json",
    "ref_embedder/config.json",
    "transformer/config.json",
    "vae/config.json",
)


def edits_with(shared: Shared, folder: Path) -> Callable[[], object]:
    """Load a model and edit a picture with it."""

    def edit() -> None:
        editor = Editor.from_pretrained(folder, device="cpu", dtype=torch.float32)
        sound(editor.edit(shared.frames[:1], WORDS, steps=1).frames)

    return edit


def weights(case: Case) -> Callable[[], object]:
    """A model folder with one damaged or forged file of weights."""
    folder = linked(case.shared.model, case.folder / "model")
    path = folder / case.random.choice(
        ("instructx.safetensors", DIT, DIT.replace("transformer", "vae"), "mllm/model.safetensors")
    )
    put(path, mutate_safetensors(path.read_bytes(), case.random))
    return edits_with(case.shared, folder)


def config(case: Case) -> Callable[[], object]:
    """A model folder with odd values in one of its JSON files."""
    folder = linked(case.shared.model, case.folder / "model")
    mutate_json_file(folder / case.random.choice(CONFIGS), case.random)
    return edits_with(case.shared, folder)


def model_config(case: Case) -> Callable[[], object]:
    """A model folder with odd values in what `instructx.safetensors` says of the model."""
    folder = linked(case.shared.model, case.folder / "model")
    path = folder / "instructx.safetensors"
    header, body = split_safetensors(path.read_bytes())
    from support.opening import config_of

    whole = json.loads(config_of(case.shared.model).to_json())
    changed = mutate_json(whole, case.random)
    header["__metadata__"]["instructx-1"] = as_json(changed).decode()
    text = json.dumps(header).encode()
    put(path, len(text).to_bytes(8, "little") + text + body)
    return edits_with(case.shared, folder)


def published(case: Case) -> Callable[[], object]:
    """Kiwi-Edit's published layout with odd values in one of its JSON files, or a damaged file of weights."""
    folder = linked(golden_runs.KIWI, case.folder / "model")
    if case.random.random() < 0.7:
        mutate_json_file(folder / case.random.choice(PUBLISHED), case.random)
    else:
        path = case.random.choice(sorted(folder.rglob("*model.safetensors")))
        put(path, mutate_safetensors(path.read_bytes(), case.random))
    return edits_with(case.shared, folder)


def index(case: Case) -> Callable[[], object]:
    """A DiT in shards whose index is damaged or names other files."""
    folder = linked(case.shared.model, case.folder / "model")
    state = _dit(case.shared.model)
    (folder / DIT).unlink()
    in_shards(state, case.folder / "shards")
    for path in (case.folder / "shards").iterdir():
        path.rename(folder / "transformer" / path.name)
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    whole = json.loads(path.read_text())
    match case.random.randrange(4):
        case 0:
            mutate_json_file(path, case.random)
        case 1:
            name = case.random.choice(list(whole["weight_map"]))
            whole["weight_map"][name] = case.random.choice((*HOSTILE_NAMES, "../vae/" + Path(DIT).name, *NASTY))
            put(path, as_json(whole))
        case 2:
            whole["weight_map"] = mutate_json(whole["weight_map"], case.random, most=5)
            put(path, as_json(whole))
        case 3:
            case.random.choice(sorted((folder / "transformer").glob("*.safetensors"))).unlink()
    return edits_with(case.shared, folder)


def notes(case: Case) -> Callable[[], object]:
    """What is kept beside a model: the ratios of a step cache, and where the folder was downloaded from."""
    pick = case.random
    if pick.random() < 0.5:
        record = {"repository": "owner/name", "commit": "c0ffee" + "0" * 34, "licence": "mit"}
        path = case.folder / "download.json"
        put(path, as_json(mutate_json(record, pick)) if pick.random() < 0.8 else mutate_bytes(as_json(record), pick))
        return lambda: recorded_commit(case.folder, "owner/name")
    folder = linked(case.shared.model, case.folder / "model")
    put(folder / "mag_ratios.json", as_json(mutate_json({"ratios": [1.0, 1.02, 0.99]}, pick)))

    def edit() -> None:
        editor = Editor.from_pretrained(folder, device="cpu", dtype=torch.float32, cache="mag")
        sound(editor.edit(case.shared.frames[:1], WORDS, steps=3).frames)

    return edit


def lora(case: Case) -> Callable[[], object]:
    """A LoRA file with damaged bytes, odd names, shapes or settings."""
    path = case.folder / "lora.safetensors"
    generator = torch.Generator().manual_seed(case.random.randrange(2**32))
    state = {}
    for layer in ("attn1.to_q", "attn2.to_out.0", "ffn.net.0.proj"):
        weight = _dit(case.shared.model)[f"blocks.0.{layer}.weight"]
        state[f"transformer.blocks.0.{layer}.lora_A.weight"] = torch.randn(2, weight.shape[1], generator=generator)
        state[f"transformer.blocks.0.{layer}.lora_B.weight"] = torch.randn(weight.shape[0], 2, generator=generator)
        state[f"transformer.blocks.0.{layer}.alpha"] = torch.tensor(2.0)
    settings = {
        "r": 2,
        "lora_alpha": 2,
        "alpha_pattern": {"blocks.0": 1},
        "rank_pattern": {},
        "target_modules": ["to_q"],
    }
    if case.random.random() < 0.4:
        settings = mutate_json(settings, case.random)
    data = save(
        state,
        {
            "lora_adapter_metadata": as_json({f"transformer.{k}": v for k, v in settings.items()}).decode()
            if isinstance(settings, dict)
            else as_json(settings).decode()
        },
    )
    path.write_bytes(mutate_safetensors(data, case.random) if case.random.random() < 0.7 else data)
    strength = case.random.choice((1.0, 1.0, 1.0, -0.5, *NASTY))
    transformer = copy.deepcopy(case.shared.editor.denoiser.transformer)

    def load() -> None:
        check_lora(path, strength)
        load_lora(transformer, path, strength)
        for name, value in transformer.state_dict().items():
            assert value.isfinite().all(), f"{name} is not finite"

    return load


def gguf(case: Case) -> Callable[[], object]:
    """A damaged GGUF in the DiT's place."""
    path = case.folder / "dit.gguf"
    path.write_bytes(mutate_bytes(_gguf(case.shared), case.random))
    if case.random.random() < 0.5:
        return lambda: describe(path)
    folder = _wide(case.shared)

    def edit() -> None:
        editor = Editor.from_pretrained(folder, device="cpu", dtype=torch.float32, transformer=path)
        sound(editor.edit(case.shared.frames[:1], WORDS, steps=1).frames)

    return edit


def info(case: Case) -> Callable[[], object]:
    """What is said of a damaged file, whatever it calls itself."""
    sources = [
        case.shared.model / DIT,
        case.shared.model / "instructx.safetensors",
        golden_runs.KIWI / "mllm_encoder/model.safetensors",
    ]
    data = case.random.choice(sources).read_bytes()
    suffix = case.random.choice((".safetensors", ".safetensors", ".gguf", ".bin", ".pt", ".ckpt", ""))
    path = case.folder / f"weights{suffix}"
    path.write_bytes(mutate_safetensors(data, case.random))

    def say() -> None:
        text = describe(path)
        assert text.replace("\n", "").isprintable(), f"control characters in {text[:300]!r}"

    return say


def hub(case: Case) -> Callable[[], object]:
    """A hub that lists odd names, or sends other bytes than it promised."""
    files = dict.fromkeys(("mllm/config.json", "vae/config.json"), b"{}") | {"instructx.safetensors": bytes(300)}
    for _ in range(case.random.randint(1, 3)):
        name = case.random.choice((*HOSTILE_NAMES, "vae/../../up", "a" * 300, "deep/" * 200))
        files[name + case.random.choice((".json", ".safetensors", ".py", ".bin", ""))] = b"{}"
    damage = case.random.random() < 0.3
    target = case.folder / "deeper" / "model"

    def download() -> None:
        with hub_server.serving() as served:
            served.models["owner/name"], served.damage = files, damage
            fetch(look_up("owner/name"), target, lambda *_: None)
        stray = [path for path in case.folder.rglob("*") if path.is_file() and not path.is_relative_to(target)]
        assert not stray, f"files outside of the folder: {stray}"
        odd = [path for path in target.rglob("*") if path.suffix in (".py", ".bin")]
        assert not odd, f"files that nobody wants: {odd}"

    return download


@cache
def _state(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def _dit(model: Path) -> dict[str, torch.Tensor]:
    return _state(model / DIT)


@cache
def _wide_folder(root: Path) -> Path:
    from instructx_core.config import ContextEntry, SourceInjection
    from instructx_core.families.instructx.folder import save_checkpoint

    own = comfyui.config("wide", SourceInjection.EMBEDDING, ContextEntry.WIDTH)
    save_checkpoint(comfyui.components(own), root / "wide")
    return root / "wide"


def _wide(shared: Shared) -> Path:
    """A model whose DiT has Wan's heads of 128, as a lone file of weights needs."""
    return _wide_folder(shared.root)


@cache
def _gguf_bytes(root: Path) -> bytes:
    write_gguf(dit_to_original(_state(_wide_folder(root) / DIT)), root / "dit.gguf", "Q8_0")
    return (root / "dit.gguf").read_bytes()


def _gguf(shared: Shared) -> bytes:
    return _gguf_bytes(shared.root)


READERS = {
    "weights": weights,
    "config": config,
    "model-config": model_config,
    "published": published,
    "index": index,
    "notes": notes,
    "lora": lora,
    "gguf": gguf,
    "info": info,
    "hub": hub,
}
