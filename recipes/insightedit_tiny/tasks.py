"""The values of `task` that only this folder's configs can use."""

from __future__ import annotations

from typing import Any

from instructx_core.training.tasks import Encoder, Stage, add_stage, start_encoder

from .config import InsightTinyTrainConfig


def add_stages() -> None:
    """Register these stages with the trainer."""
    for task, stage in {
        "insight-autoencoder": Stage(_autoencoder, encoder=None),
        "insight-clip": Stage(_clip, encoder=None),
        "insight-llava": Stage(_llava, encoder=None),
        "insight-drawing": Stage(_drawing, _vae_alone),
        "insight-alignment": Stage(_alignment, start_encoder),
        "insight-editing": Stage(_editing, start_encoder),
    }.items():
        add_stage(task, InsightTinyTrainConfig, stage)


def _autoencoder(config: InsightTinyTrainConfig) -> Any:
    from .autoencoder import AutoencoderTask

    return AutoencoderTask(config)


def _clip(config: InsightTinyTrainConfig) -> Any:
    from .clip import ClipTask

    return ClipTask(config)


def _llava(config: InsightTinyTrainConfig) -> Any:
    from .llava import LlavaTask

    return LlavaTask(config)


def _drawing(config: InsightTinyTrainConfig) -> Any:
    from .drawing import DrawingTask

    return DrawingTask(config)


def _alignment(config: InsightTinyTrainConfig) -> Any:
    from .editing import WordsTask

    return WordsTask(config)


def _editing(config: InsightTinyTrainConfig) -> Any:
    from .editing import InsightEditingTask

    return InsightEditingTask(config)


def _vae_alone(config: InsightTinyTrainConfig) -> Encoder:
    from instructx_core.weights.detect import find_form
    from instructx_core.weights.parts import Part

    return Encoder(find_form(config.start["vae"], Part.VAE), patch=1, shown_frames=1)
