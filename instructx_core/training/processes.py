"""How many processes train together, and who goes first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from accelerate import PartialState


def on_cpu() -> bool:
    """Whether training runs on CPUs; accelerate takes several CPU processes for strangers unless an option says so."""
    return not torch.accelerator.is_available()


def process_state() -> PartialState:
    """This run's processes, before an `Accelerator` exists."""
    from accelerate import PartialState

    return PartialState(cpu=on_cpu())
