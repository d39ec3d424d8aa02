"""Which code runs the `task` of a config. A recipe outside this package adds its own kinds of stage (recipes/tiny)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .config import KINDS, TrainConfig, TwoStreamTrainConfig

if TYPE_CHECKING:
    from ..weights.detect import Form


@dataclass(frozen=True)
class Encoder:
    """What encodes a stage's examples, of the model that it starts from."""

    vae: Form
    patch: int  # places of the latents that one of the DiT's patches spans, in height and width
    shown_frames: int  # of a clip that the guidance sees


@dataclass(frozen=True)
class Stage:
    """One kind of stage; modules are imported as it is asked for."""

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
    """Of a stage that starts from a whole model.

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
    """Let configs name another kind of stage; what is said of it is read as `config`."""
    KINDS[task] = config
    STAGES[task] = stage


def make_task(config: TrainConfig) -> Any:
    """The `trainer.Task` that a config asks for."""
    return STAGES[config.task].make(config)
