"""Decide the dtype of a model and where its weights are kept, from file headers, before any weight is read."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from ..errors import InputError
from ..families.components import Components
from ..families.meta_model import outline
from ..families.opened import Opened
from ..main_memory import Room, address_space, main_memory
from ..words import quoted_path
from .choice import Memory
from .formats import has_8_bit_floats
from .measure import measure_phases
from .needs import (
    GIB,
    OWN_MEMORY,
    RUNTIME,
    Held,
    Need,
    address_need,
    held_weights,
    main_memory_need,
)
from .phases import Job, Phase, trained_job
from .placement import store_in_fp8
from .plan import CHOICES, Plan, free_bytes, make_plan
from .sizes import ModelSizes, sizes_of

SMALL = GIB  # bytes; with fewer weights, AUTO gives none back
PLANNED = ("cuda", *OWN_MEMORY)  # devices for which memory can be planned
PLENTY = 8  # measuring is skipped if free memory is this many times a small model's weights


@dataclass(frozen=True)
class Decision:
    """How to load a model."""

    dtype: torch.dtype
    plan: Plan


@dataclass(frozen=True)
class Outlined:
    """A model in one dtype on the meta device, and the memory that its weights would take."""

    model: Components
    sizes: ModelSizes
    held: Held

    def phases(self, job: Job, tiled: bool) -> tuple[Phase, ...]:
        """The phases of an edit with their working memory."""
        return measure_phases(self.model, job, tiled)


def decide(
    opened: Opened,
    device: torch.device,
    dtype: torch.dtype | None = None,
    memory: Memory = Memory.AUTO,
    merged: bool = False,
    fp8: bool = False,
    job: Job | None = None,
    free: int | None = None,
) -> Decision:
    """Decide how to load a model.

    Options that change no pixel are tried first, then fewer bits, then a tiled VAE. If not even that fits but the
    weights do, it is chosen anyway, because smaller edits may fit.

    Args:
        dtype: None: bfloat16, on a CPU float32 if it fits.
        memory: what the user asked for.
        merged: LoRAs will be merged into the DiT.
        fp8: the DiT will be kept in 8 bits.
        job: the edits to plan for; None: of the size and length that the model was trained for.
        free: free bytes of a GPU; None: as on this machine.

    Raises:
        CheckpointError: as `outline`.
        InputError: the weights do not fit into main memory; the message contains the sum.
    """
    dtypes = (dtype,) if dtype is not None else formats(device)
    edit = job or trained_job(opened.config)
    unplanned = Plan(Memory.FULL if memory is Memory.AUTO else memory, tiled=False)
    if device.type not in PLANNED or (device.type == "cpu" and _is_small(opened)):
        return Decision(dtypes[0], unplanned)
    gc.collect()  # frees the weights of deleted models, which offloading hooks keep alive in reference cycles

    @cache
    def outlined(dtype: torch.dtype) -> Outlined:
        return outline_model(opened, dtype, device, merged, fp8)

    if device.type not in OWN_MEMORY:
        plan = _on_gpu(opened.path, dtypes[0], outlined(dtypes[0]), memory, device, edit, free)
        return Decision(dtypes[0], plan)
    for tiled in (False, True):
        for candidate in dtypes:
            model = outlined(candidate)
            choice = own_choice(model.held) if memory is Memory.AUTO else memory
            phases = model.phases(edit, tiled)
            if not missing(model.held, main_memory_need(model.held, phases, choice, device)):
                return Decision(candidate, Plan(choice, tiled))
    least = outlined(dtypes[-1])
    choice = own_choice(least.held) if memory is Memory.AUTO else memory
    _refuse(opened.path, dtypes[-1], least, choice, device, may_shrink=dtype is torch.float32)
    return Decision(dtypes[-1], Plan(choice, tiled=True))


def formats(device: torch.device) -> tuple[torch.dtype, ...]:
    """The dtypes to choose from, best first."""
    return (torch.float32, torch.bfloat16) if device.type == "cpu" else (torch.bfloat16,)


def outline_model(
    opened: Opened, dtype: torch.dtype, device: torch.device, merged: bool = False, fp8: bool = False
) -> Outlined:
    """The outline of a model as it would be loaded; arguments as in `decide`."""
    model = outline(opened, dtype, packed=has_8_bit_floats(device), dit_changes=merged or fp8)
    if fp8:
        store_in_fp8(model)
    sizes = sizes_of(model)
    return Outlined(model, sizes, held_weights(opened, dtype, sizes, merged or fp8, copied=device.type == "mps"))


def own_choice(held: Held) -> Memory:
    """AUTO's choice for weights in main memory: one part at a time costs little, but a small model gains nothing."""
    return Memory.MODEL if sum(held.mapped.values()) >= SMALL else Memory.FULL


def missing(held: Held, need: Need) -> tuple[Need, Room] | None:
    """The need and the room of the first kind of memory that is too small; None if everything fits."""
    for needed, room in ((need, main_memory()), (address_need(held, need), address_space())):
        if room is not None and needed.total > room.bytes:
            return needed, room
    return None


def _on_gpu(
    path: Path,
    dtype: torch.dtype,
    model: Outlined,
    memory: Memory,
    device: torch.device,
    job: Job,
    free: int | None,
) -> Plan:
    """The plan for a GPU, among the ways of keeping weights that fit into main memory."""

    def fits(choice: Memory) -> bool:
        return not missing(model.held, main_memory_need(model.held, (), choice, device))

    choices = tuple(filter(fits, CHOICES if memory is Memory.AUTO else (memory,)))
    if not choices:
        choice = Memory.FULL if memory is Memory.AUTO else memory  # needs the least main memory
        _refuse(path, dtype, model, choice, device, may_shrink=dtype is torch.float32)
    room = free_bytes(device) if free is None else free
    return make_plan(model.sizes, lambda tiled: model.phases(job, tiled), choices, room)


def _refuse(
    path: Path, dtype: torch.dtype, model: Outlined, choice: Memory, device: torch.device, may_shrink: bool
) -> None:
    """Raise InputError if not even the weights fit."""
    parts = tuple(Phase(part.value, part, 0) for part in model.held.mapped)
    short = missing(model.held, main_memory_need(model.held, parts, choice, device))
    if short is None:
        return
    need, room = short
    advice = "choose bfloat16 (--dtype bfloat16)" if may_shrink else f"{room.advice}, or choose a smaller model"
    raise InputError(
        f"{quoted_path(path)} in {str(dtype).removeprefix('torch.')} needs {need} of main memory, and "
        f"{room.bytes / GIB:.1f} GiB are {room.limit}; {advice}."
    )


def _is_small(opened: Opened) -> bool:
    """Whether a model is so small compared with the free memory that nothing needs to be measured."""
    forms = map(opened.form, opened.parts)
    weights = 4 * sum(stored.numel for form in forms for stored in form.tensors.values())
    rooms = (room for room in (main_memory(), address_space()) if room is not None)
    return weights < SMALL and all(room.bytes >= PLENTY * weights + RUNTIME for room in rooms)
