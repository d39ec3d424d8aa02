"""Models in every form of docs/weights.md, laid out as ComfyUI's folders, for both doors to their weights.

`save` writes them below one folder; `FORMS` says of each which model it is and which weights are given beside it, as
paths below `instructx`, `diffusion_models`, `vae` and `text_encoders`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from instructx_core.convert import convert
from instructx_core.families.components import adapter_state
from instructx_core.families.overrides import Overrides
from instructx_core.weights.files import read_safetensors, write_safetensors
from instructx_core.weights.wan_keys import dit_to_original, vae_to_original
from support import comfyui, kiwi_model, public_models
from support.kiwi_trained import as_trained, spelled, taken_off
from support.quantise import FORMATS, quantised
from support.weight_forms import E4M3, in_shards, old_names, scaled

DIT, VAE = "transformer/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"
WHOLE = next(iter(comfyui.VARIANTS))

# form -> the model, and the parts that are given
FORMS: dict[str, dict[str, str]] = {
    "a folder": {"model": WHOLE},
    "a LoRA, a variant and a trainer's state beside the weights": {"model": "beside"},
    "a sharded DiT": {"model": "sharded"},
    "what was trained alone": {
        "model": "trained.safetensors",
        "transformer": "plain.safetensors",
        "vae": "folder.safetensors",
        "mllm": "qwen-folder",
    },
    "a DiT in one file": {"model": WHOLE, "transformer": "plain.safetensors"},
    "within wrappers": {"model": WHOLE, "transformer": "wrapped.safetensors"},
    "fp8": {"model": WHOLE, "transformer": "fp8.safetensors"},
    "fp8 with scales, as first spelled": {"model": WHOLE, "transformer": "scaled-old.safetensors"},
    "fp8 with scales, as spelled now": {"model": WHOLE, "transformer": "scaled-new.safetensors"},
    "bf16": {"model": WHOLE, "transformer": "bf16.safetensors"},
    "a lone Qwen": {"model": WHOLE, "mllm": "qwen-file/model.safetensors"},
    "a lone Qwen in scaled fp8": {"model": WHOLE, "mllm": "qwen-scaled/model.safetensors"},
    "int8": {"model": WHOLE, "transformer": "int8 by rows.safetensors"},
    "int8, rotated, said in the metadata": {"model": WHOLE, "transformer": "int8 rotated.safetensors"},
    "nvfp4": {"model": WHOLE, "transformer": "nvfp4.safetensors"},
    "mxfp8": {"model": WHOLE, "transformer": "mxfp8.safetensors"},
    "a lone Qwen in nvfp4": {"model": WHOLE, "mllm": "qwen-nvfp4/model.safetensors"},
    "Kiwi-Edit's folder": {"model": "published"},
    "Kiwi-Edit's training checkpoint, with the whole DiT": {
        "model": "stage3.safetensors",
        "vae": "kiwi.safetensors",
        "mllm": "kiwi-qwen",
    },
    "Kiwi-Edit's training checkpoint, as the hub has it": {
        "model": "hub-stage3",
        "vae": "kiwi.safetensors",
        "mllm": "kiwi-qwen",
    },
    "Kiwi-Edit's training checkpoint, with LoRA": {
        "model": "stage2.safetensors",
        "transformer": "kiwi-base.safetensors",
        "vae": "kiwi.safetensors",
        "mllm": "kiwi-qwen",
    },
    "Bernini-R's folder": {"model": "bernini"},
    "Bernini-R's folder, converted": {"model": "bernini-own"},
    "CoinVE-Edit's file": {
        "model": "coinve.safetensors",
        "transformer": "coinve.safetensors",
        "vae": "coinve.safetensors",
        "mllm": "coinve",
    },
    "CoinVE-Edit's file, converted": {"model": "coinve-own"},
}
KINDS = {"model": "instructx", "transformer": "diffusion_models", "vae": "vae", "mllm": "text_encoders"}


def save(root: Path) -> None:
    """Write all of them below `root`."""
    for kind in KINDS.values():
        (root / kind).mkdir(parents=True)
    _save_own(root)
    _save_published(root)
    _save_of_others(root)


def _save_own(root: Path) -> None:
    models, dits = root / "instructx", root / "diffusion_models"
    comfyui.save_variants(models, [WHOLE])
    whole = models / WHOLE
    dit, mllm = (read_safetensors(whole / file)[0] for file in (DIT, "mllm/model.safetensors"))
    beside = shutil.copytree(whole, models / "beside")
    write_safetensors(
        beside / "transformer/my-style-lora.safetensors",
        {"blocks.0.attn1.to_q.lora_A.weight": dit["scale_shift_table"]},
    )
    write_safetensors(
        beside / "transformer/diffusion_pytorch_model.fp16.safetensors", {k: v.half() for k, v in dit.items()}
    )
    write_safetensors(beside / "mllm/state.safetensors", {"optimizer.step": torch.ones(1)})
    sharded = shutil.copytree(whole, models / "sharded")
    shutil.copy(sharded / "transformer/config.json", models)
    shutil.rmtree(sharded / "transformer")
    in_shards(dit, sharded / "transformer")
    shutil.move(models / "config.json", sharded / "transformer/config.json")
    shutil.copy(whole / "instructx.safetensors", models / "trained.safetensors")
    original = dit_to_original(dit)
    forms = {
        "plain": original,
        "wrapped": {f"module._orig_mod.{name}": value for name, value in original.items()},
        "fp8": {name: value.to(E4M3) if value.ndim == 2 else value for name, value in original.items()},
        "scaled-old": scaled(original, "old"),
        "scaled-new": scaled(original, "new"),
        "bf16": {name: value.bfloat16() for name, value in original.items()},
    }
    for name, state in forms.items():
        write_safetensors(dits / f"{name}.safetensors", state)
    for kind in FORMATS[1:]:
        stored, metadata, _ = quantised(original, kind, in_metadata=kind == "int8 rotated")
        write_safetensors(dits / f"{kind}.safetensors", stored, metadata)
    write_safetensors(root / "vae/folder.safetensors", vae_to_original(read_safetensors(whole / VAE)[0]))
    texts = {"qwen-folder": mllm, "qwen-file": old_names(mllm), "qwen-scaled": scaled(old_names(mllm), "new")}
    texts["qwen-nvfp4"] = quantised(old_names(mllm), "nvfp4")[0]
    for name, state in texts.items():
        folder = shutil.copytree(whole / "mllm", root / "text_encoders" / name)
        metadata = read_safetensors(folder / "model.safetensors")[1]
        write_safetensors(folder / "model.safetensors", state, metadata)


def _save_published(root: Path) -> None:
    """Kiwi-Edit's published folder, and what its training code would have saved of the same model."""
    own = kiwi_model.components()
    published = root / "instructx/published"
    kiwi_model.publish(own, published)
    convert(published, root / "own")  # for an MLLM's folder as transformers has it
    shutil.copytree(root / "own/mllm", root / "text_encoders/kiwi-qwen")
    write_safetensors(root / "vae/kiwi.safetensors", vae_to_original(read_safetensors(root / "own" / VAE)[0]))
    dit = dit_to_original(own.denoiser.transformer.state_dict())
    adapter = as_trained(adapter_state(own.guidance, own.connector, own.denoiser))
    models = root / "instructx"
    write_safetensors(models / "stage3.safetensors", adapter | {f"dit.{name}": value for name, value in dit.items()})
    (models / "hub-stage3").mkdir()
    shutil.copy(models / "stage3.safetensors", models / "hub-stage3/model.safetensors")
    (models / "hub-stage3/download.json").write_text("{}", encoding="utf-8")
    base, pairs = taken_off(dit, ["blocks.0.self_attn.q.weight", "blocks.1.ffn.0.weight"])
    write_safetensors(models / "stage2.safetensors", adapter | spelled(pairs, "dit."))
    write_safetensors(root / "diffusion_models/kiwi-base.safetensors", base)
    shutil.rmtree(root / "own")


def _save_of_others(root: Path) -> None:
    """Bernini-R's folder and CoinVE-Edit's file, and what they become in this library's layout."""
    models = root / "instructx"
    public_models.save_bernini(models / "bernini", native=True)
    convert(models / "bernini", models / "bernini-own")
    public_models.save_coinve_natively(root, "coinve")
    model, given = paths("CoinVE-Edit's file", root)
    convert(model, models / "coinve-own", Overrides(**given))


def paths(form: str, root: Path) -> tuple[Path, dict[str, Path]]:
    """The model of a form, and what is given beside it."""
    places = {part: root / KINDS[part] / name for part, name in FORMS[form].items()}
    return places.pop("model"), places
