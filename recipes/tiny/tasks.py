"""The values of `task` that only this folder's configs can use."""

from __future__ import annotations

from typing import Any

from instructx_core.training.tasks import Encoder, Stage, add_stage, start_encoder

from .config import TinyTrainConfig


def add_stages() -> None:
    """Register these stages with `instructx train` and `instructx cache`."""
    for task, stage in {
        "autoencoder": Stage(_autoencoder, encoder=None),
        "language": Stage(_language, encoder=None),
        "generator": Stage(_generator, _encoder),
        "reading": Stage(_reading, _encoder),
        "tiny-editing": Stage(_editing, _encoder),
    }.items():
        add_stage(task, TinyTrainConfig, stage)


def _autoencoder(config: TinyTrainConfig) -> Any:
    from .autoencoder import AutoencoderTask

    return AutoencoderTask(config)


def _language(config: TinyTrainConfig) -> Any:
    from .language import LanguageTask

    return LanguageTask(config)


def _generator(config: TinyTrainConfig) -> Any:
    from .editing import GeneratorTask

    return GeneratorTask(config)


def _reading(config: TinyTrainConfig) -> Any:
    from .editing import ReadingTask

    return ReadingTask(config)


def _editing(config: TinyTrainConfig) -> Any:
    from .editing import TinyEditingTask

    return TinyEditingTask(config)


def _encoder(config: TinyTrainConfig) -> Encoder:
    from .fresh import planned_encoder

    return start_encoder(config) if "model" in config.start else planned_encoder(config)
