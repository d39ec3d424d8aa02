"""Where the weights are kept during an edit, chosen from what the device has free and what is needed."""

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

USABLE = 0.9  # of what is free: the rest goes to gaps between tensors
KERNELS = 2**29  # bytes that convolutions and attention may take for themselves


CHOICES = (Memory.FULL, Memory.MODEL, Memory.GROUP, Memory.SEQUENTIAL)


@dataclass(frozen=True)
class Plan:
    """How a model is kept."""

    memory: Memory  # never AUTO
    tiled: bool  # the VAE works tile by tile, which changes pixels a little where tiles meet


def make_plan(
    sizes: ModelSizes, phases: Callable[[bool], tuple[Phase, ...]], choices: Sequence[Memory], free: int
) -> Plan:
    """How to keep a model on a device for the edits whose phases are given.

    What changes nothing comes first: tiles are cut only where not even the thriftiest way of keeping weights fits
    without. If nothing fits, it is that one with tiles.

    Args:
        phases: of an edit, as `measure` gives them; the argument says whether the VAE works in tiles.
        choices: ways to choose from, in their order.
        free: bytes that the device has free.
    """
    for tiled in (False, True):
        working = phases(tiled)
        for choice in choices:
            if peak(sizes, working, choice) <= usable(free):
                return Plan(choice, tiled)
    return Plan(choices[-1], tiled=True)


def usable(free: int) -> int:
    """Bytes that a plan may use of those that are free."""
    return max(0, int(free * USABLE) - KERNELS)


def peak(sizes: ModelSizes, phases: tuple[Phase, ...], memory: Memory) -> int:
    """Bytes on the device at the fullest moment of an edit."""
    return max(resident(sizes, memory, phase.part) + phase.working for phase in phases)


def resident(sizes: ModelSizes, memory: Memory, working: Part) -> int:
    """Bytes of weights on the device while a part works."""
    parts, vae = sizes.parts, sizes.vae.total
    own = parts[working]
    if memory is Memory.FULL:
        weights = sum(part.total for part in parts.values())
    elif memory is Memory.MODEL:  # of a pair of DiTs too, one goes before the other comes
        # the VAE of the last edit may still be there when the MLLM reads for the next
        weights = own.total + (vae if working is Part.MLLM else 0)
    elif memory is Memory.SEQUENTIAL:
        weights = own.layer
    elif working.kind is Part.DIT:
        weights = own.outside + 2 * own.block + vae  # one block computes, one is on its way
    else:
        weights = vae + (own.layer if working is Part.MLLM else 0)
    return sizes.added + weights


def free_bytes(device: torch.device) -> int:
    """What a CUDA device has free, with what PyTorch keeps of models and edits that are gone."""
    import torch

    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept
