"""The processes of a training run."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from accelerate import PartialState

# how long processes wait for one that works alone: it may encode shards or a whole pool, or read or write a model.
# PyTorch's own limits, 10 minutes on GPUs and 30 on CPUs, would end such a run. The launcher notices dead processes.
LONGEST_WAIT = timedelta(days=1)


def on_cpu() -> bool:
    """True if training runs on CPUs. Unless told so, accelerate treats several CPU processes as unrelated."""
    return not torch.accelerator.is_available()


def process_state() -> PartialState:
    """accelerate's view of this run's processes; works before an `Accelerator` exists."""
    from accelerate import PartialState

    return PartialState(cpu=on_cpu(), timeout=LONGEST_WAIT)
