"""Choose where the weights are kept during an edit, from the free memory of the device and the need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..weights.parts import Part
from .choice import Memory
from .phases import Phase
from .sizes import ModelSizes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

USABLE = 0.9  # share of free memory; the rest is lost to fragmentation
KERNELS = 2**29  # bytes that convolutions and attention may take for themselves


CHOICES = (Memory.FULL, Memory.MODEL, Memory.GROUP, Memory.SEQUENTIAL)


@dataclass(frozen=True)
class Plan:
    """How a model is kept."""

    memory: Memory  # never AUTO
    tiled: bool  # the VAE works tile by tile, which changes pixels slightly where tiles meet


def make_plan(
    sizes: ModelSizes, phases: Callable[[bool], tuple[Phase, ...]], choices: Sequence[Memory], free: int
) -> Plan:
    """Choose how to keep a model on a device for edits with the given phases.

    The VAE is tiled only if even the most economical way of keeping weights does not fit without tiles. If nothing
    fits, that way with tiles is returned.

    Args:
        phases: returns the phases of an edit, as `measure` does; its argument is whether the VAE is tiled.
        choices: ways to choose from, in order of preference.
        free: free bytes of the device.
    """
    for tiled in (False, True):
        working = phases(tiled)
        for choice in choices:
            if peak(sizes, working, choice) <= usable(free):
                return Plan(choice, tiled)
    return Plan(choices[-1], tiled=True)


def usable(free: int) -> int:
    """Bytes of the free memory that a plan may use."""
    return max(0, int(free * USABLE) - KERNELS)


def peak(sizes: ModelSizes, phases: tuple[Phase, ...], memory: Memory) -> int:
    """Peak bytes on the device during an edit."""
    return max(resident(sizes, memory, phase.part) + phase.working for phase in phases)


def resident(sizes: ModelSizes, memory: Memory, working: Part) -> int:
    """Bytes of weights on the device while a part works."""
    parts, vae = sizes.parts, sizes.vae.total
    own = parts[working]
    if memory is Memory.FULL:
        weights = sum(part.total for part in parts.values())
    elif memory is Memory.MODEL:  # also of a pair of DiTs, one leaves before the other arrives
        # the VAE of the last edit may still be on the device when the MLLM reads for the next one
        weights = own.total + (vae if working is Part.MLLM else 0)
    elif memory is Memory.SEQUENTIAL:
        weights = own.layer
    elif working.kind is Part.DIT:
        weights = own.outside + 2 * own.block + vae  # one block computes while the next is loaded
    else:
        weights = vae + (own.layer if working is Part.MLLM else 0)
    return sizes.added + weights


def free_bytes(device: torch.device) -> int:
    """Free bytes of a CUDA device, including what PyTorch has cached from earlier models and edits."""
    import torch

    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept
