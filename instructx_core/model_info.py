"""What a model folder says about itself, read from its configs and headers without loading a weight."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .checkpoints.bundle import ADAPTER, BUNDLED
from .checkpoints.files import read_shapes
from .checkpoints.kiwi import added_files, is_kiwi
from .checkpoints.kiwi_keys import MLLM
from .checkpoints.loading import read_model_config
from .checkpoints.pretrained import check_part

if TYPE_CHECKING:
    from .config import ModelConfig

PARTS = {"mllm": "MLLM", "transformer": "DiT", "vae": "VAE"}


def describe_model(folder: Path | None = None) -> str:
    """A model folder (the bundled one by default) as lines of text: sizes, queries, injection, sampling defaults.

    Raises:
        CheckpointError: no such folder, another kind of folder, or a missing, truncated or damaged part.
    """
    folder = folder or BUNDLED
    config = read_model_config(folder)
    parts = {MLLM if part == "mllm" else part: title for part, title in PARTS.items()} if is_kiwi(folder) else PARTS
    added = added_files(folder) if is_kiwi(folder) else [folder / ADAPTER]
    for part in parts:
        check_part(folder / part)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    rows = {"model": config.name, "folder": f"{folder} ({size / 1e6:.1f} MB)"}
    rows |= _settings(config)
    for part, title in parts.items():
        files = [path for path in sorted((folder / part).glob("*.safetensors")) if path not in added]
        rows[title] = f"{_millions(files)} parameters"
    rows["InstructX adds"] = f"{_millions(added)} parameters beside these"
    width = max(map(len, rows))
    return "\n".join(f"{title:<{width}}  {value}" for title, value in rows.items())


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
