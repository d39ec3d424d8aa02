"""The code that runs each `task` of a config. Recipes outside this package add their own kinds (recipes/tiny)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .config import KINDS, TrainConfig, TwoStreamTrainConfig

if TYPE_CHECKING:
    from ..weights.detect import Form


@dataclass(frozen=True)
class Encoder:
    """What is needed of a stage's start model to encode its examples."""

    vae: Form
    patch: int  # height and width of the DiT's patches, in latent pixels
    shown_frames: int  # frames of a clip that the guidance sees


@dataclass(frozen=True)
class Stage:
    """One kind of stage; its modules are imported when it is used."""

    make: Callable[[Any], Any]  # its config -> a `trainer.Task`
    encoder: Callable[[Any], Encoder] | None  # None: it trains on pixels


def _editing(config: TrainConfig) -> Any:
    from .editing import EditingTask

    return EditingTask(config)


def _alignment(config: TwoStreamTrainConfig) -> Any:
    from .two_stream import AlignmentTask

    return AlignmentTask(config)


def _two_stream(config: TwoStreamTrainConfig) -> Any:
    from .two_stream import TwoStreamTask

    return TwoStreamTask(config)


def start_encoder(config: TrainConfig) -> Encoder:
    """The encoder of a stage that starts from a complete model.

    Raises:
        CheckpointError: the model is missing or damaged.
    """
    import torch

    from ..families.meta_model import outline
    from ..weights.parts import Part
    from .start import open_start

    opened = open_start(config.start["model"])
    components = outline(opened, torch.float32)
    patch = components.denoiser.patch
    return Encoder(opened.form(Part.VAE), patch, components.config.guidance.video_frames)


STAGES: dict[str, Stage] = {
    "editing": Stage(_editing, start_encoder),
    "alignment": Stage(_alignment, start_encoder),
    "two_stream": Stage(_two_stream, start_encoder),
}


def add_stage(task: str, config: type[TrainConfig], stage: Stage) -> None:
    """Register a kind of stage; configs with this `task` are read as `config`."""
    KINDS[task] = config
    STAGES[task] = stage


def make_task(config: TrainConfig) -> Any:
    """Make the `trainer.Task` of a config."""
    return STAGES[config.task].make(config)
