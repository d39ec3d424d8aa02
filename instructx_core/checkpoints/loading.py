"""Any model that this library reads, told apart by what is in it."""

from __future__ import annotations

from pathlib import Path

import torch

from ..config import ModelConfig
from .base import OWN, Base
from .bundle import Components, load_checkpoint, read_config
from .kiwi import is_kiwi, load_kiwi, read_kiwi_config
from .kiwi_trained import is_trained, load_trained, read_trained_config


def load_model(
    path: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, base: Base = OWN
) -> Components:
    """Read a whole model: this repo's own layout, Kiwi-Edit's published one, or a training checkpoint of Kiwi-Edit.

    Args:
        path: the model's folder, or the file of what it adds to base models.
        base: base models that take the place of its own.

    Raises:
        CheckpointError: none of them, or a missing, truncated or damaged file.
    """
    load = load_trained if is_trained(path) else load_kiwi if is_kiwi(path) else load_checkpoint
    return load(path, device, dtype, base)


def read_model_config(path: str | Path) -> ModelConfig:
    """The `ModelConfig` of such a model, without its weights.

    Raises:
        CheckpointError: as `load_model`.
    """
    read = read_trained_config if is_trained(path) else read_kiwi_config if is_kiwi(path) else read_config
    return read(path)
