"""What a model folder says about itself, read from its configs and headers without loading a weight."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from .checkpoints.bundle import ADAPTER, BUNDLED, check_part, read_config

if TYPE_CHECKING:
    from .config import ModelConfig

PARTS = {"mllm": "MLLM", "transformer": "DiT", "vae": "VAE"}


def describe_model(folder: Path | None = None) -> str:
    """A model folder (the bundled one by default) as lines of text: sizes, queries, injection, sampling defaults.

    Raises:
        CheckpointError: no such folder, another kind of folder, or a missing, truncated or damaged part.
    """
    folder = folder or BUNDLED
    config = read_config(folder)
    for part in PARTS:
        check_part(folder / part)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    rows = {"model": config.name, "folder": f"{folder} ({size / 1e6:.1f} MB)"}
    rows |= _settings(config)
    rows |= {title: f"{_millions(folder / part)} parameters" for part, title in PARTS.items()}
    rows["InstructX adds"] = f"{_millions(folder / ADAPTER)} parameters beside these"
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
        "LoRA": f"rank {guidance.lora_rank}, alpha {guidance.lora_alpha}",
        "connector": f"{connector.input_dim} -> {connector.hidden_dim} -> {connector.output_dim}, "
        f"enters at {connector.entry.value}",
        "source": f"added by {config.denoiser.source.value}",
        "predicts": config.denoiser.prediction.value,
        "sampling": f"{sampling.steps} steps, shift {sampling.shift:g}, guidance scale {sampling.guidance_scale:g}",
        "left out of video": ", ".join(config.held_out_from_video) or "nothing",
    }


def _millions(path: Path) -> str:
    """Numbers held by a safetensors file, or by all of a folder, as '1.7 M'."""
    from safetensors import safe_open

    count = 0
    for file in [path] if path.is_file() else sorted(path.glob("*.safetensors")):
        with safe_open(file, framework="numpy") as tensors:
            count += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return f"{count / 1e6:.2f} M"
