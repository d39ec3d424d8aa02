"""The number format in which a training run computes; float32 where a CPU is slow in bfloat16.

Without AVX-512, oneDNN has no bfloat16 and PyTorch's own loops take over: on an EPYC with AVX2, a linear layer
(1024 x 512 x 512, forward and backward) took 39 times as long as in float32.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ..compat import has_fast_bfloat16_on_cpu
from .processes import process_state

logger = logging.getLogger(__name__)


def is_slow_in_bfloat16(device: torch.device) -> bool:
    """True for a CPU for which oneDNN has no bfloat16."""
    return device.type == "cpu" and not has_fast_bfloat16_on_cpu()


def warn_of_float32(precision: str, device: torch.device) -> None:
    """Warn once per run that `precision: bf16` has no effect on this device."""
    if precision == "bf16" and is_slow_in_bfloat16(device) and process_state().is_main_process:
        logger.warning("This processor has no fast bfloat16 (AVX-512 has); training computes in float32 instead.")


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Compute in bfloat16 within the block if a config's `precision` asks for it, and the device is not slow in it.

    By hand: accelerate fixes one precision per process, so a second run could not change it.
    """
    enabled = precision == "bf16" and not is_slow_in_bfloat16(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def stepping(device: torch.device) -> AbstractContextManager[Any]:
    """For optimizer steps: PyTorch's Muon iterates in bfloat16; within the block it does not where that is slow."""
    return WithoutBfloat16() if is_slow_in_bfloat16(device) else nullcontext()


class WithoutBfloat16(TorchFunctionMode):
    """Within the block, `tensor.bfloat16()` gives a copy in float32."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.bfloat16:
            return args[0].to(torch.float32, copy=True)
        return func(*args, **(kwargs or {}))
