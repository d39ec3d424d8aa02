"""Any model folder that this library reads, told apart by what is in it."""

from __future__ import annotations

from pathlib import Path

import torch

from ..config import ModelConfig
from .bundle import Components, load_checkpoint, read_config
from .kiwi import is_kiwi, load_kiwi, read_kiwi_config


def load_model(
    folder: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Components:
    """Read a whole model: this repo's own layout, or Kiwi-Edit's published one.

    Raises:
        CheckpointError: neither of them, or a missing, truncated or damaged file.
    """
    return (load_kiwi if is_kiwi(folder) else load_checkpoint)(folder, device, dtype)


def read_model_config(folder: str | Path) -> ModelConfig:
    """The `ModelConfig` of such a folder, without its weights.

    Raises:
        CheckpointError: as `load_model`.
    """
    return (read_kiwi_config if is_kiwi(folder) else read_config)(folder)
