"""Where the weights lie during an edit, chosen from what the device has free and from an estimate of what is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .choice import Memory
from .estimate import Job, Part, Phase, estimate
from .sizes import ModelSizes

if TYPE_CHECKING:
    import torch

    from ..config import ModelConfig

USABLE = 0.9  # of what is free: the rest goes to gaps between tensors
KERNELS = 2**29  # bytes that convolutions and attention may take for themselves


CHOICES = (Memory.FULL, Memory.MODEL, Memory.GROUP, Memory.SEQUENTIAL)


@dataclass(frozen=True)
class Plan:
    """How a model is kept."""

    memory: Memory  # never AUTO
    tiled: bool  # the VAE works tile by tile, which changes pixels a little where tiles meet


def trained_job(config: ModelConfig) -> Job:
    """An edit of the size, length and kind that a model was trained for."""
    height, width = config.default_size
    return Job(width, height, config.default_frames, guided=config.sampling.guidance_scale != 1)


def make_plan(sizes: ModelSizes, job: Job, memory: Memory, free: int | None) -> Plan:
    """How to keep a model for edits like `job`.

    What changes nothing comes first: tiles are cut only where not even the thriftiest way of keeping weights fits
    without. If nothing fits, it is that one with tiles.

    Args:
        memory: what was asked for; AUTO chooses.
        free: bytes that the device has free, None where weights cannot lie anywhere else (a CPU).
    """
    choices = CHOICES if memory is Memory.AUTO else (memory,)
    if free is None:
        return Plan(choices[0], tiled=False)
    for tiled in (False, True):
        for choice in choices:
            if peak(sizes, estimate(sizes, job, tiled), choice) <= usable(free):
                return Plan(choice, tiled)
    return Plan(choices[-1], tiled=True)


def usable(free: int) -> int:
    """Bytes that a plan may count on where so many are free."""
    return max(0, int(free * USABLE) - KERNELS)


def peak(sizes: ModelSizes, phases: tuple[Phase, ...], memory: Memory) -> int:
    """Bytes on the device at the fullest moment of an edit."""
    return max(resident(sizes, memory, phase.part) + phase.working for phase in phases)


def resident(sizes: ModelSizes, memory: Memory, working: Part) -> int:
    """Bytes of weights on the device while a part works."""
    mllm, dit, vae = sizes.mllm.weights, sizes.dit.weights, sizes.vae.weights
    weights = {
        Memory.FULL: dict.fromkeys(Part, mllm.total + dit.total + vae.total),
        # the VAE of the last edit may still be there when the MLLM reads for the next
        Memory.MODEL: {Part.MLLM: mllm.total + vae.total, Part.DIT: dit.total, Part.VAE: vae.total},
        Memory.GROUP: {
            Part.MLLM: mllm.layer + vae.total,
            Part.DIT: dit.outside + 2 * dit.block + vae.total,  # one block computes, one is on its way
            Part.VAE: vae.total,
        },
        Memory.SEQUENTIAL: {Part.MLLM: mllm.layer, Part.DIT: dit.layer, Part.VAE: vae.layer},
    }
    return sizes.added + weights[memory][working]


def free_bytes(device: torch.device) -> int | None:
    """What a CUDA device has free; None where weights off the device would lie in the same memory (CPU, MPS)."""
    import torch

    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
