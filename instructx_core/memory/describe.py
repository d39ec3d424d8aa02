"""Format a memory plan as a table: what each phase of an edit needs, before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import torch

from .. import families
from ..device import pick_device
from ..errors import InputError
from ..families.components import Components
from ..families.instructx.folder import BUNDLED
from ..families.overrides import OWN, Overrides
from ..fit import nearest
from ..main_memory import main_memory
from .choice import Memory
from .decide import Outlined, decide, formats, outline_model
from .needs import GIB, OWN_MEMORY, main_memory_need, weights_in_use
from .phases import Job, Phase, trained_job
from .plan import CHOICES, free_bytes, make_plan, peak, resident, usable
from .sizes import ModelSizes

MIB = 2**20
COLUMN = 12
CARDS = (8, 12, 16, 24)  # GiB of common GPUs
WAYS = {
    Memory.FULL: "everything on the GPU",
    Memory.MODEL: "one part on the GPU at a time",
    Memory.GROUP: "block by block from main memory, slower",
    Memory.SEQUENTIAL: "layer by layer from main memory, slow",
}


def describe_plan(
    path: Path | None = None,
    canvas: tuple[int, int] | None = None,
    frames: int | None = None,
    vram: float | None = None,
    overrides: Overrides = OWN,
) -> str:
    """How much device memory and main memory edits of this size would need, and what "auto" would choose.

    Args:
        path: the model's folder, or the file with its additions to base models; None for the bundled model.
        canvas: height and width in pixels, rounded to multiples of the stride; None: as trained.
        frames: length of the clip; None: as trained.
        vram: free GiB of a GPU; None: this machine's device and what is free on it now.
        overrides: weights that replace the model's own, or that it lacks.

    Raises:
        CheckpointError: as `outline`.
    """
    opened = families.open(path or BUNDLED, overrides)
    device = pick_device(None) if vram is None else torch.device("cuda")
    models = {dtype: outline_model(opened, dtype, device) for dtype in formats(device)}
    job = _job(next(iter(models.values())).model, canvas, frames)
    free = None if vram is None else int(vram * GIB)
    try:
        decision = decide(opened, device, job=job, free=free)
    except InputError as error:
        dtype, tiled, verdict = formats(device)[-1], True, f"auto would refuse: {error}"
    else:
        dtype, tiled, gpu = decision.dtype, decision.plan.tiled, ""
        if device.type not in OWN_MEMORY:
            gpu = f" with {(free_bytes(device) if free is None else free) / GIB:.3g} GiB free"
        verdict = f'auto, on {_name(device)}{gpu}: {_short(dtype)}, memory="{decision.plan.memory.value}"'
        verdict += ", the VAE in tiles" if tiled else ""
    size = f"{job.width} x {job.height} pixels (width x height)"
    title = f"{models[dtype].model.config.name}, {size}, {_length(job)}, {_short(dtype)}"
    needs = (_main_memory(model, name, model.phases(job, tiled), device) for name, model in models.items())
    room = main_memory()
    there = f"main memory: {room.bytes / GIB:.3g} GiB {room.limit}"
    return "\n".join((title, "", *_table(models[dtype], job, tiled, device), "", *needs, there, "", verdict))


def describe_cards(
    path: Path | None = None,
    canvas: tuple[int, int] | None = None,
    frames: int | None = None,
) -> str:
    """How much GPU memory edits of this size need, and whether each size in `CARDS` suffices.

    Args:
        path, canvas, frames: as `describe_plan`.

    Raises:
        CheckpointError: as `outline`.
    """
    device = torch.device("cuda")
    (dtype,) = formats(device)
    model = outline_model(families.open(path or BUNDLED), dtype, device)
    job = _job(model.model, canvas, frames)
    phases = cache(lambda tiled: model.phases(job, tiled))
    size = f"{job.width} x {job.height} pixels (width x height)"
    title = f"{model.model.config.name}, {size}, {_length(job)}, {_short(dtype)}"
    verdicts = (f"{card} GiB free: {_verdict(model.sizes, phases, int(card * GIB))}" for card in CARDS)
    return "\n".join((title, "", *_table(model, job, False, device), "", *verdicts))


def _verdict(sizes: ModelSizes, phases: Callable[[bool], tuple[Phase, ...]], free: int) -> str:
    """How a GPU with `free` bytes would run an edit, or that they are too few."""
    plan = make_plan(sizes, phases, CHOICES, free)
    needed = peak(sizes, phases(plan.tiled), plan.memory)
    if needed > usable(free):
        return f"too little: it needs at least {_amount(needed)}; give fewer frames or a smaller size"
    tiles = ", the VAE in tiles" if plan.tiled else ""
    return f"{WAYS[plan.memory]}{tiles} ({_amount(needed)} at most)"


def _amount(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.0f} MiB"


def _job(model: Components, canvas: tuple[int, int] | None, frames: int | None) -> Job:
    trained = trained_job(model.config)
    stride = model.codec.stride * model.denoiser.patch
    height, width = (nearest(side, stride) for side in canvas or (trained.height, trained.width))
    return Job(width, height, frames or trained.frames, trained.guided, trained.places)


def _length(job: Job) -> str:
    places = f" and {job.places} instructions, each in its place" if job.places else ""
    return f"{job.frames} frames{places}"


def _table(model: Outlined, job: Job, tiled: bool, device: torch.device) -> Iterable[str]:
    """A row per phase: its weights, its working memory, and the total for each way of keeping weights."""
    sizes, phases = model.sizes, model.phases(job, tiled)
    on_device = device.type not in OWN_MEMORY
    choices = CHOICES if on_device else (Memory.FULL, Memory.MODEL)

    def needed(phase: Phase, choice: Memory) -> int:
        part = phase.part
        return phase.working + (
            resident(sizes, choice, part) if on_device else weights_in_use(model.held, choice, part)
        )

    most = [max(needed(phase, choice) for phase in phases) for choice in choices]
    unit = GIB if max(most) >= GIB else MIB
    yield _row("GiB" if unit == GIB else "MiB", "weights", "working", *(choice.value for choice in choices))
    for phase in phases:
        numbers = (sizes.parts[phase.part].total, phase.working, *(needed(phase, choice) for choice in choices))
        yield _row(phase.name, *(f"{number / unit:.1f}" for number in numbers))
    yield _row("most at once", "", "", *(f"{number / unit:.1f}" for number in most))
    if on_device:
        main = (main_memory_need(model.held, phases, choice, device).total for choice in choices)
        yield _row("main memory", "", "", *(f"{number / unit:.1f}" for number in main))


def _main_memory(model: Outlined, dtype: torch.dtype, phases: tuple[Phase, ...], device: torch.device) -> str:
    """A line on the main memory that a dtype needs, with as little as possible in use at a time."""
    choice = Memory.MODEL if device.type in OWN_MEMORY else Memory.FULL
    return f"{_short(dtype)}: {main_memory_need(model.held, phases, choice, device)} of main memory"


def _name(device: torch.device) -> str:
    return {"cpu": "a CPU", "mps": "a Mac's GPU"}.get(device.type, "a GPU")


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _row(name: str, *cells: str) -> str:
    return f"{name:<{COLUMN}}" + "".join(f"{cell:>{COLUMN}}" for cell in cells)
