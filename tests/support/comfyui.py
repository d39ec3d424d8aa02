"""Finding a real ComfyUI, and models that it can load natively and that exercise every way of injection."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from instructx_core.config import (
    ConnectorConfig,
    ConnectorKind,
    ContextEntry,
    DenoiserConfig,
    GuidanceConfig,
    GuidanceKind,
    ModelConfig,
    Prediction,
    SamplingConfig,
    SourceInjection,
)
from instructx_core.connectors import make_connector
from instructx_core.denoiser import Denoiser
from instructx_core.families.components import Components, guidance_class
from instructx_core.families.instructx.folder import BUNDLED, save_checkpoint
from instructx_core.families.tiny.config import TinyConfig, TinySettings
from instructx_core.latents import LatentCodec
from instructx_core.weights.files import read_safetensors, write_safetensors
from instructx_core.weights.marks import ADAPTER
from support import tiny, tiny_insightedit
from support.text_encoder import text_encoder, text_tokenizer

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan, WanTransformer3DModel

WIDTH = 128  # ComfyUI's Wan has heads of 128
TEXT_DIM = 4096
CHANNELS = 16
SOURCES = (SourceInjection.LATENT, SourceInjection.EMBEDDING)  # of a DiT; a UNet takes further channels
PREDICTIONS = ("velocity", "change")
VARIANTS = {
    f"{source.value}-{entry.value}-{prediction}": (source, entry, prediction)
    for source, entry, prediction in itertools.product(SOURCES, ContextEntry, PREDICTIONS)
}
VARIANTS["embedding-text-affine"] = (SourceInjection.EMBEDDING, ContextEntry.TEXT, "affine")

OWN = tiny.CONFIG.guidance
# the architectures that the paper compares (Fig. 3 and 9a): guidance and connector
COMPARED: dict[str, tuple[GuidanceConfig, ConnectorConfig]] = {
    "text": (
        replace(OWN, kind=GuidanceKind.TEXT, lora_rank=0),
        ConnectorConfig(ConnectorKind.NONE, TEXT_DIM, output_dim=TEXT_DIM),
    ),
    "qformer": (
        replace(OWN, kind=GuidanceKind.HIDDEN_STATES),
        ConnectorConfig(ConnectorKind.QFORMER, tiny.HIDDEN, 28, TEXT_DIM, layers=2, head_dim=14, tokens=6),
    ),
    "metaquery": (
        replace(OWN, lora_rank=0),
        ConnectorConfig(ConnectorKind.TRANSFORMER, tiny.HIDDEN, 28, TEXT_DIM, layers=2, head_dim=8),
    ),
    "shared-queries": (
        replace(OWN, video_queries=0),
        ConnectorConfig(input_dim=tiny.HIDDEN, hidden_dim=28, output_dim=TEXT_DIM),
    ),
}


def find() -> tuple[Path, Path]:
    """ComfyUI's folder and its Python; skips loudly where there is none."""
    folder = Path(os.environ.get("COMFYUI_PATH", Path.home() / "ComfyUI"))
    python = Path(os.environ.get("COMFYUI_PYTHON", folder / ".venv" / "bin" / "python"))
    if not (folder / "main.py").is_file() or not python.exists():
        pytest.skip(
            f"THERE IS NO COMFYUI in {folder} with a Python at {python}: nothing of the nodes was run. "
            "Set COMFYUI_PATH and COMFYUI_PYTHON."
        )
    return folder, python


def config(name: str, source: SourceInjection, entry: ContextEntry, prediction: str = "velocity") -> ModelConfig:
    waves = 2 if source is SourceInjection.EMBEDDING and prediction != "velocity" else 0
    width = WIDTH if entry is ContextEntry.WIDTH else TEXT_DIM
    own = replace(
        tiny.CONFIG,
        name=name,
        connector=ConnectorConfig(input_dim=tiny.HIDDEN, hidden_dim=28, output_dim=width, entry=entry),
        denoiser=DenoiserConfig(source, source_waves=waves),
        sampling=SamplingConfig(steps=4, shift=3.0),
    )
    return own if prediction == "velocity" else TinyConfig(**vars(own), tiny=TinySettings(prediction))


def transformer(channels: int, outputs: int = 1) -> WanTransformer3DModel:
    """A DiT in the sizes that ComfyUI's loader fixes, with `outputs` channels for each of a latent."""
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=1,
        attention_head_dim=WIDTH,
        in_channels=channels,
        out_channels=outputs * channels,
        text_dim=TEXT_DIM,
        freq_dim=256,
        ffn_dim=64,
        num_layers=2,
    )


def wan_vae() -> AutoencoderKLWan:
    """A VAE in Wan 2.1's form, with its strides and its published scale."""
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    return AutoencoderKLWan(base_dim=4).eval()


def components(own: ModelConfig) -> Components:
    """A model of random weights in the sizes that ComfyUI's loader fixes; its VAE has strides 4 and 2."""
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    dit = transformer(CHANNELS, 1 if own.source_prediction is None else own.source_prediction.outputs)
    vae = AutoencoderKLWan(
        base_dim=8,
        z_dim=CHANNELS,
        num_res_blocks=1,
        latents_mean=torch.linspace(-0.5, 0.5, CHANNELS).tolist(),
        latents_std=torch.linspace(0.5, 1.5, CHANNELS).tolist(),
        **tiny.OTHER_STRIDES,
    )
    reader = (tiny.mllm(), tiny.tokenizer())
    if own.guidance.kind is GuidanceKind.TEXT:
        reader = (text_encoder(TEXT_DIM), text_tokenizer())
    guidance = guidance_class(own)(*reader, own.guidance)
    connector = make_connector(own.connector)
    denoiser = Denoiser(dit, own.denoiser, own.connector.entry, own.source_prediction)
    tiny.shake(connector, 0.1)
    if denoiser.source_embedding is not None:
        tiny.shake(denoiser.source_embedding, 0.3)
    whole = Components(own, guidance, connector, denoiser, LatentCodec(vae))
    for module in (guidance, connector, denoiser, whole.codec):
        module.eval().requires_grad_(False)
    return whole


def save_variants(root: Path, names: Iterable[str] = VARIANTS) -> None:
    """Write variants, by default all, to folders of their names."""
    for name in names:
        save_checkpoint(components(config(name, *VARIANTS[name])), root / name)


def save_smaller(folder: Path, side: int = 72, blocks: int = 3) -> None:
    """Write the bundled model with the first `blocks` of its DiT, made to edit at `side` x `side` pixels where nobody
    says a size: a run takes less than a third of its time at 128.
    """
    shutil.copytree(BUNDLED, folder)
    state, metadata = read_safetensors(folder / ADAPTER)
    (key,) = (name for name, text in metadata.items() if "default_size" in text)
    own = json.loads(metadata[key]) | {"default_size": [side, side]}
    write_safetensors(folder / ADAPTER, state, metadata | {key: json.dumps(own)})
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    state, metadata = read_safetensors(path)
    outer = re.compile(r"blocks\.(\d+)\.")
    kept = {name: value for name, value in state.items() if not (at := outer.match(name)) or int(at[1]) < blocks}
    write_safetensors(path, kept, metadata)
    config = folder / "transformer" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text("utf-8")) | {"num_layers": blocks}), encoding="utf-8")


def save_compared(root: Path) -> None:
    """Write the models of `COMPARED` to folders of their names."""
    paper = config("", SourceInjection.LATENT, ContextEntry.TEXT)
    for name, (guidance, connector) in COMPARED.items():
        save_checkpoint(components(replace(paper, name=name, guidance=guidance, connector=connector)), root / name)


def save_insightedit(root: Path) -> None:
    """Write an InsightEdit that ComfyUI can build, a SmartEdit, and one that predicts v, to folders of their names."""
    native = tiny_insightedit.NATIVE
    v = replace(native, denoiser=replace(native.denoiser, prediction=Prediction.V))
    for name, own in {"insightedit": native, "smartedit": tiny_insightedit.without_iaa(native), "v": v}.items():
        save_checkpoint(tiny_insightedit.components(replace(own, name=name)), root / name)
