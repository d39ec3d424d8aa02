"""Write models in their published layouts, at any size, with dummy weights: for `rehearsal`.

Large matrices are holes in their files: they read as zeros and take memory like any weights, but no disk space. All
others are random, so that edits are finite and have more than one colour.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from instructx_core.families.components import Components, adapter_state
from instructx_core.families.kiwi.keys import ADAPTER_NAMES, MLLM, REFERENCE, SOURCE
from instructx_core.weights.portable import make_portable
from instructx_core.weights.wan_keys import dit_to_original, vae_to_original

GIB = 2**30
SHARD = 4 * GIB  # approximate maximum bytes of a file
HOLE = 4 * 2**20  # bytes; matrices of at least this size are holes
NOISE = 2**22  # random values, which are written repeatedly
NAMES = {torch.bfloat16: "BF16", torch.float32: "F32", torch.float8_e4m3fn: "F8_E4M3"}
EIGHT_BITS = "fp8_scaled.safetensors"  # of the MLLM
COMPOSITE = "coinve_edit_composite_vllm256_dit128.safetensors"
RANKS = {"dit": 128, "mllm": 256}  # of the LoRA in CoinVE-Edit's file
LIMITS = {"max_frames": 16, "max_pixels_per_frame": 262144, "max_object_token": 768}


def write_kiwi(model: Components, folder: Path) -> dict[str, Path]:
    """Write Kiwi-Edit's published folder; return the arguments for `Editor.from_pretrained`."""
    added = adapter_state(model.guidance, model.connector, model.denoiser)
    for part, config in ((MLLM, LIMITS), (SOURCE, {}), (REFERENCE, {"ref_pad_first": False})):
        own = {published: added[name] for published, name in ADAPTER_NAMES[part].items()}
        write_random(folder / part / "diffusion_pytorch_model.safetensors", own)
        _write_json(folder / part / "config.json", config)
    _write_reader(model, folder / MLLM, folder / "processor", "qwen_config.json")
    _write_dit(model, folder / "transformer")
    vae = model.codec.vae
    write_random(folder / "vae/diffusion_pytorch_model.safetensors", vae_to_original(vae.state_dict()))
    scale = {name: list(getattr(vae.config, name)) for name in ("latents_mean", "latents_std")}
    _write_json(folder / "vae/config.json", scale)
    return {"path": folder}


def write_bernini(model: Components, folder: Path) -> dict[str, Path]:
    """Write Bernini-R's folder, in diffusers' format; return as `write_kiwi`."""
    _write_reader(model, folder / "text_encoder", folder / "tokenizer", "")
    _write_dit(model, folder / "transformer")
    vae = model.codec.vae
    write_random(folder / "vae/diffusion_pytorch_model.safetensors", vae.state_dict())
    vae.save_config(folder / "vae")
    _write_json(folder / "config.json", {"model_type": "bernini_renderer"})
    return {"path": folder}


def write_coinve(model: Components, folder: Path, eight_bits: bool = False) -> dict[str, Path]:
    """Write CoinVE-Edit's single file and its base models; return as `write_kiwi`.

    Args:
        eight_bits: DiT and MLLM as ComfyUI's fp8 scaled files.
    """
    write_random(folder / COMPOSITE, composite(model))
    reader = folder / "Qwen3-VL-8B-Instruct"
    _write_reader(model, reader, reader, "config.json", eight_bits)
    if eight_bits:
        reader = reader / EIGHT_BITS
    state = dit_to_original(model.denoiser.transformer.state_dict())
    dit = folder / ("wan2.1_t2v_14B_fp8_scaled.safetensors" if eight_bits else "wan2.1_t2v_14B_bf16.safetensors")
    write_random(dit, _scaled(state) if eight_bits else state)
    write_random(folder / "wan_2.1_vae.safetensors", vae_to_original(model.codec.vae.state_dict()))
    return {"path": folder / COMPOSITE, "transformer": dit, "vae": folder / "wan_2.1_vae.safetensors", "mllm": reader}


def composite(model: Components) -> dict[str, Tensor]:
    """The tensors of CoinVE-Edit's file, named as by its authors' exporter."""
    own = adapter_state(model.guidance, model.connector, model.denoiser, model.masks)
    named = {"queries.image": "mllm.image_queries.q", "queries.video": "mllm.video_queries.q"}
    named |= {"queries.reference": "mllm.ref_queries.q"}
    for leaf in ("weight", "bias"):
        for layer, name in ((0, "linear_in"), (2, "linear_out")):
            named[f"connector.{name}.{leaf}"] = f"mllm.connector.{layer}.{leaf}"
            named[f"connector.reference.{name}.{leaf}"] = f"mllm.ref_connector.{layer}.{leaf}"
        for kind, name in (("source", "vae_condition"), ("reference", "ref_vae_condition")):
            named[f"denoiser.{kind}_embedding.{leaf}"] = f"{name}.patch_embedding.{leaf}"
    state = {}
    for name, value in own.items():
        if name.startswith("masks."):
            state[f"mask_head.{name.removeprefix('masks.')}"] = value
        elif name.startswith("denoiser.local_strength."):
            state[f"residual_attention_module.layers.{name.rpartition('.')[2]}.residual_alpha"] = value
        elif name in named:
            state[named[name]] = value
    for name, value in dit_to_original(model.denoiser.transformer.state_dict()).items():
        if name.startswith("blocks.") and name.endswith(".weight") and value.ndim == 2 and "modulation" not in name:
            module = name.removesuffix(".weight").replace(".cross_attn.", ".cross_attn.orig.")
            state |= _pair(f"dit.{module}", value, RANKS["dit"])
    language = model.guidance.mllm.model.language_model
    for name, module in language.named_modules():
        if name.startswith("layers.") and isinstance(module, nn.Linear):
            state |= _pair(f"mllm.model.model.language_model.{name}", module.weight, RANKS["mllm"])
    return state


def write_random(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write a bfloat16 safetensors file with the shapes of `state`; 8-bit floats and their scales keep their dtype.

    Values are close to one for scales and close to zero for all others; large matrices are holes.
    """
    kinds = {name: _kind(name, value) for name, value in state.items()}
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, value in state.items():
        size = value.numel() * kinds[name].itemsize
        header[name] = {"dtype": NAMES[kinds[name]], "shape": list(value.shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, value in state.items():
            size = value.numel() * kinds[name].itemsize
            if value.ndim == 2 and size >= HOLE:
                file.seek(size, 1)
                continue
            is_scale = (name.endswith("weight") and value.ndim < 2) or name.endswith("gamma")
            data = _noise(kinds[name], 1.0 if is_scale else 0.0)
            while size > 0:
                size -= file.write(data[:size])
        file.truncate(8 + len(text) + end)


def _kind(name: str, value: Tensor) -> torch.dtype:
    is_kept = value.dtype is torch.float8_e4m3fn or name.endswith("scale_weight")
    return value.dtype if is_kept else torch.bfloat16


@cache
def _noise(kind: torch.dtype, around: float) -> memoryview:
    noise = torch.randn(NOISE, generator=torch.Generator().manual_seed(0)) * 0.02 + around
    return noise.to(kind).view(torch.uint8).numpy().data


def _pair(module: str, weight: Tensor, rank: int) -> dict[str, Tensor]:
    out, into = weight.shape
    rank = min(rank, out, into)
    with torch.device("meta"):
        shapes = {"lora_A": torch.empty(rank, into, dtype=torch.bfloat16)}
        shapes["lora_B"] = torch.empty(out, rank, dtype=torch.bfloat16)
    return {f"{module}.{name}.default.weight": shape for name, shape in shapes.items()}


def _scaled(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The blocks' matrices in 8 bits with one scale each, and the marker of ComfyUI's fp8 scaled files."""
    made: dict[str, Tensor] = {"scaled_fp8": torch.empty(2, dtype=torch.float8_e4m3fn, device="meta")}
    for name, value in state.items():
        is_block = any(part in name for part in ("blocks.", "layers.")) and value.ndim == 2
        if is_block and name.endswith(".weight"):
            made[name] = value.to(torch.float8_e4m3fn)
            made[name.replace(".weight", ".scale_weight")] = torch.empty((), dtype=torch.float32, device="meta")
        else:
            made[name] = value.to(torch.bfloat16)
    return made


def _write_reader(model: Components, weights: Path, words: Path, config: str, eight_bits: bool = False) -> None:
    """Write the MLLM or text encoder in shards, with its tokenizer.

    Args:
        config: file name of its config in the tokenizer's folder; "" for transformers' own name, next to the weights.
        eight_bits: write one fp8 scaled file instead of shards.
    """
    reader = model.guidance.mllm
    model.guidance.tokenizer.save_pretrained(words)
    reader.config.architectures = [type(reader).__name__]
    folder = words if config else weights
    reader.config.save_pretrained(folder)
    make_portable(folder / "config.json")
    if config and config != "config.json":
        (folder / "config.json").rename(folder / config)
    tied = {"lm_head.weight"} if getattr(reader.config, "tie_word_embeddings", False) else set()
    second = {"encoder.embed_tokens.weight"}  # umT5's tied word embeddings, stored only once
    own = {name: value for name, value in reader.state_dict().items() if name not in tied | second}
    if eight_bits:
        write_random(weights / EIGHT_BITS, _scaled(own))
    else:
        write_shards(weights, "model", own)


def _write_dit(model: Components, folder: Path) -> None:
    model.denoiser.transformer.save_config(folder)
    make_portable(folder / "config.json")
    write_shards(folder, "diffusion_pytorch_model", model.denoiser.transformer.state_dict())


def write_shards(folder: Path, stem: str, state: Mapping[str, Tensor]) -> None:
    """Write a part's tensors as its library would: one file, or shards with an index."""
    shards: list[dict[str, Tensor]] = [{}]
    for name, value in state.items():
        if sum(2 * held.numel() for held in shards[-1].values()) > SHARD:
            shards.append({})
        shards[-1][name] = value
    if len(shards) == 1:
        write_random(folder / f"{stem}.safetensors", state)
        return
    index = {}
    for number, shard in enumerate(shards, 1):
        file = f"{stem}-{number:05}-of-{len(shards):05}.safetensors"
        write_random(folder / file, shard)
        index |= dict.fromkeys(shard, file)
    _write_json(folder / f"{stem}.safetensors.index.json", {"metadata": {}, "weight_map": index})


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
