"""The same weights in the forms in which people keep them, in the key layouts of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from instructx_core.weights.files import write_safetensors

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
SPLIT = 2  # shards


def scaled(state: Mapping[str, torch.Tensor], spelling: str, dtype: torch.dtype = E4M3) -> dict[str, torch.Tensor]:
    """Comfy-Org's scaled 8-bit floats: linear weights divided by their largest value, the rest unchanged.

    Args:
        spelling: "old" for `scale_weight` and the marker `scaled_fp8`, "new" for `weight_scale` and `comfy_quant`.
    """
    new = spelling == "new"
    result = {} if new else {"scaled_fp8": torch.zeros(2, dtype=dtype)}  # two numbers: products in full precision
    for name, value in state.items():
        layer, _, leaf = name.rpartition(".")
        if leaf != "weight" or value.ndim != 2 or not any(part in name for part in ("blocks.", "layers.")):
            result[name] = value
            continue
        scale = value.abs().max().float() / torch.finfo(dtype).max
        result[name] = (value.float() / scale).to(dtype)
        result[f"{layer}.{'weight_scale' if new else 'scale_weight'}"] = scale
        if new:
            kind = {"format": str(dtype).removeprefix("torch."), "full_precision_matrix_mult": True}
            result[f"{layer}.comfy_quant"] = torch.tensor(list(json.dumps(kind).encode()), dtype=torch.uint8)
        else:
            result[f"{layer}.scale_input"] = torch.tensor(1.0)
    return result


def in_shards(state: Mapping[str, torch.Tensor], folder: Path, stem: str = "diffusion_pytorch_model") -> Path:
    """Write two shards and their index."""
    folder.mkdir(parents=True)
    index = {}
    names = sorted(state)
    for number in range(SPLIT):
        file = f"{stem}-{number + 1:05}-of-{SPLIT:05}.safetensors"
        held = names[number::SPLIT]
        write_safetensors(folder / file, {name: state[name] for name in held}, {"format": "pt"})
        index |= dict.fromkeys(held, file)
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder


def write_gguf(state: Mapping[str, torch.Tensor], path: Path, kind: str) -> dict[str, torch.Tensor]:
    """A GGUF file as ComfyUI-GGUF's converter makes it, and what the library gguf unpacks it to.

    Matrices become `kind`; vectors, modulation and what is sensitive stay in float32.
    """
    gguf = pytest.importorskip("gguf", reason="THE PACKAGE gguf IS MISSING: GGUF weights were not tried")
    writer = gguf.GGUFWriter(str(path), "wan")
    values = {}
    for name, value in state.items():
        plain = value.ndim != 2 or any(word in name for word in ("embedding", "projection", "head"))
        packing = gguf.GGMLQuantizationType.F32 if plain else gguf.GGMLQuantizationType[kind]
        data = gguf.quants.quantize(value.float().numpy(), packing)
        writer.add_tensor(name, data, raw_dtype=packing)
        values[name] = torch.from_numpy(gguf.quants.dequantize(data, packing).copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values


def old_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As on the hub and in Comfy-Org's files: `model.layers`, `visual.blocks`."""
    return {
        name.replace("model.language_model.", "model.").replace("model.visual.", "visual."): value
        for name, value in state.items()
    }
