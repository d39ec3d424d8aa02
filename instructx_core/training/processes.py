"""The processes of a training run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from accelerate import PartialState


def on_cpu() -> bool:
    """True if training runs on CPUs. Unless told so, accelerate treats several CPU processes as unrelated."""
    return not torch.accelerator.is_available()


def process_state() -> PartialState:
    """accelerate's view of this run's processes; works before an `Accelerator` exists."""
    from accelerate import PartialState

    return PartialState(cpu=on_cpu())
