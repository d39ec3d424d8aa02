"""A plan as a table for a person: what every phase of an edit needs, before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..checkpoints.base import OWN, Base
from ..checkpoints.bundle import BUNDLED
from ..checkpoints.outline import outline
from ..fit import nearest
from .choice import Memory
from .estimate import Job, Part, estimate
from .plan import CHOICES, free_bytes, make_plan, peak, resident, trained_job
from .sizes import ModelSizes, sizes_of

if TYPE_CHECKING:
    from collections.abc import Iterable

GIB, MIB = 2**30, 2**20
COLUMN = 12


def describe_plan(
    path: Path | None = None,
    canvas: tuple[int, int] | None = None,
    frames: int | None = None,
    vram: float | None = None,
    base: Base = OWN,
) -> str:
    """What edits of this size would need of a device, and what memory="auto" would choose.

    Args:
        path: the model's folder, or the file of what it adds to base models; None for the bundled one.
        canvas: height and width in pixels, brought to multiples of the stride; None: as trained.
        frames: length of the clip; None: as trained.
        vram: GiB that the device has free; None: as many as the one in this machine has.
        base: base models that take the place of the model's own, or that it does not have.

    Raises:
        CheckpointError: as `outline`.
    """
    import torch

    from ..device import pick_device

    device = pick_device(None)
    dtype = torch.float32 if vram is None and device.type == "cpu" else torch.bfloat16
    sizes = sizes_of(outline(path or BUNDLED, dtype, base))
    job = _job(sizes, canvas, frames)
    free = free_bytes(device) if vram is None else int(vram * GIB)
    plan = make_plan(sizes, job, Memory.AUTO, free)
    chosen = f'memory="{plan.memory.value}"{", the VAE in tiles" if plan.tiled else ""}'
    where = "a CPU, where nothing else would save anything" if free is None else f"{free / GIB:.3g} GiB free"
    size = f"{job.width} x {job.height} pixels (width x height)"
    title = f"{sizes.config.name}, {size}, {job.frames} frames, {str(dtype).removeprefix('torch.')}"
    return "\n".join((title, "", *_table(sizes, job, plan.tiled), "", f"auto, with {where}: {chosen}"))


def _job(sizes: ModelSizes, canvas: tuple[int, int] | None, frames: int | None) -> Job:
    trained = trained_job(sizes.config)
    stride = sizes.vae.stride * sizes.dit.patch[1]
    height, width = (nearest(side, stride) for side in canvas or (trained.height, trained.width))
    return Job(width, height, frames or trained.frames, trained.guided)


def _table(sizes: ModelSizes, job: Job, tiled: bool) -> Iterable[str]:
    """A row for each phase: its weights, what it computes with, and both together for each way of keeping weights."""
    weights = {Part.MLLM: sizes.mllm.weights, Part.DIT: sizes.dit.weights, Part.VAE: sizes.vae.weights}
    phases = estimate(sizes, job, tiled)
    most = [peak(sizes, phases, choice) for choice in CHOICES]
    unit = GIB if max(most) >= GIB else MIB
    yield _row("GiB" if unit == GIB else "MiB", "weights", "working", *(choice.value for choice in CHOICES))
    for phase in phases:
        needs = (resident(sizes, choice, phase.part) + phase.working for choice in CHOICES)
        numbers = (weights[phase.part].total, phase.working, *needs)
        yield _row(phase.name, *(f"{number / unit:.1f}" for number in numbers))
    yield _row("most at once", "", "", *(f"{number / unit:.1f}" for number in most))


def _row(name: str, *cells: str) -> str:
    return f"{name:<{COLUMN}}" + "".join(f"{cell:>{COLUMN}}" for cell in cells)
