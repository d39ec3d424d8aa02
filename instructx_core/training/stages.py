"""From a config's `task` to the object that does it."""

from __future__ import annotations

from pathlib import Path

from .config import TrainConfig
from .trainer import Task, Trainer


def make_task(config: TrainConfig) -> Task:
    """Build what a stage trains; its module is imported only when it is asked for."""
    if config.task == "autoencoder":
        from .autoencoding import AutoencoderTask

        return AutoencoderTask(config)
    if config.task == "language":
        from .language import LanguageTask

        return LanguageTask(config)
    from .editing import EditingTask

    return EditingTask(config)


def train(config: TrainConfig, resume: bool = False) -> Path:
    """Run one stage to its end; returns the folder of the trained model."""
    return Trainer(config, make_task(config)).run(resume)
