"""What a model says about itself, read from its configs and headers without loading a weight."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .bounded import is_dir, is_file
from .families.instructx.folder import BUNDLED, adapter_path
from .families.kiwi.folder import added_files, is_kiwi
from .families.kiwi.keys import MLLM
from .families.kiwi.trained import is_trained
from .families.loading import is_model, read_model_config
from .weights.files import read_shapes
from .weights.library_load import check_part
from .weights_info import describe_trained, describe_weights, table

if TYPE_CHECKING:
    from .config import ModelConfig

PARTS = {"mllm": "MLLM", "transformer": "DiT", "vae": "VAE"}


def describe(path: Path | None = None) -> str:
    """A model (the bundled one by default), a training checkpoint, or weights in any form, as lines of text.

    Raises:
        CheckpointError: nothing there, something that is none of these, or a missing, truncated or damaged file.
    """
    if path is None or not (is_file(path) or is_dir(path)):
        return describe_model(path)
    if is_trained(path):
        return describe_trained(path)
    return describe_model(path) if is_model(path) else describe_weights(path)


def describe_model(path: Path | None = None) -> str:
    """A model (the bundled one by default) as lines of text: sizes, queries, injection, sampling defaults.

    Args:
        path: the model's folder, or the file of what it adds to base models.

    Raises:
        CheckpointError: no such folder, another kind of folder, or a missing, truncated or damaged part.
    """
    path = path or BUNDLED
    config = read_model_config(path)
    parts = {MLLM if part == "mllm" else part: title for part, title in PARTS.items()} if is_kiwi(path) else PARTS
    added = added_files(path) if is_kiwi(path) else [adapter_path(path)]
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) or path.stat().st_size
    if all((path / part).is_dir() for part in parts):
        from .families.meta_model import outline

        outline(path, torch.float32)
    rows = {"model": config.name, "path": f"{path} ({size / 1e6:.1f} MB)"}
    rows |= _settings(config)
    for part, title in parts.items():
        if not (path / part).is_dir():
            rows[title] = f"none of its own: give it with --{part.removesuffix('_encoder')}"
            continue
        check_part(path / part)
        files = [file for file in sorted((path / part).glob("*.safetensors")) if file not in added]
        rows[title] = f"{_millions(files)} parameters"
    rows["InstructX adds"] = f"{_millions(added)} parameters beside these"
    return table(rows)


def _settings(config: ModelConfig) -> dict[str, str]:
    guidance, connector, sampling = config.guidance, config.connector, config.sampling
    height, width = config.default_size
    return {
        "trained at": f"{width} x {height} pixels (width x height), {config.default_frames} frames",
        "queries": f"{guidance.image_queries} for images, {guidance.video_queries} for videos, "
        f"{guidance.reference_queries or 'none apart'} for references",
        "frames seen": f"{guidance.video_frames} of a video",
        "LoRA": f"rank {guidance.lora_rank}, alpha {guidance.lora_alpha}" if guidance.lora_rank else "none",
        "connector": f"{connector.input_dim} -> {connector.hidden_dim} -> {connector.output_dim}, "
        f"enters at {connector.entry.value}",
        "source": f"added by {config.denoiser.source.value}",
        "predicts": config.denoiser.prediction.value,
        "sampling": f"{sampling.steps} steps, shift {sampling.shift:g}, guidance scale {sampling.guidance_scale:g}",
        "left out of video": ", ".join(config.held_out_from_video) or "nothing",
    }


def _millions(files: Sequence[Path]) -> str:
    """Numbers held by safetensors files, as '1.7 M'."""
    return f"{sum(math.prod(shape) for file in files for shape in read_shapes(file).values()) / 1e6:.2f} M"
