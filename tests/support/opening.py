"""Models opened and read in one call."""

from __future__ import annotations

from pathlib import Path

import torch

from instructx_core import families
from instructx_core.config import ModelConfig
from instructx_core.families.components import Components
from instructx_core.families.loading import load_model
from instructx_core.families.meta_model import outline
from instructx_core.families.overrides import OWN, Overrides
from instructx_core.families.part_loaders import added_tensors


def load(path: str | Path, base: Overrides = OWN, dtype: torch.dtype = torch.float32) -> Components:
    return load_model(families.open(path, base), dtype=dtype)


def outlined(path: str | Path, dtype: torch.dtype = torch.float32, base: Overrides = OWN) -> Components:
    return outline(families.open(path, base), dtype)


def config_of(path: str | Path) -> ModelConfig:
    return families.open(path).config


def added(path: str | Path) -> dict[str, torch.Tensor]:
    return added_tensors(families.open(path))
