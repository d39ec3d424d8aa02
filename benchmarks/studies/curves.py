"""The training error of a run over its steps, from its TensorBoard logs."""

from __future__ import annotations

import statistics
from pathlib import Path

BINS = 15
TAGS = ("error", "diffusion")  # the mean squared error of the velocity or noise, without other terms of the loss


def curve(output: Path) -> list[tuple[int, float]]:
    """At most BINS points (step, mean since the previous point); steps repeated after a resume count once."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    values: dict[int, float] = {}
    for file in sorted(output.rglob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime):
        events = EventAccumulator(str(file), size_guidance={"scalars": 0})
        events.Reload()
        for tag in set(TAGS) & set(events.Tags()["scalars"]):
            own = events.Scalars(tag)
            values = {step: value for step, value in values.items() if step < own[0].step}
            values |= {one.step: one.value for one in own}
    steps = sorted(values)
    size = max(1, -(-len(steps) // BINS))
    parts = [steps[at : at + size] for at in range(0, len(steps), size)]
    return [(part[-1], round(statistics.fmean(values[step] for step in part), 5)) for part in parts]
