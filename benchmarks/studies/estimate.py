"""Estimate the hours of all studies on this machine from a few batches of every kind of stage: a table in Markdown.

    OMP_NUM_THREADS=1 python benchmarks/studies/estimate.py WORK [STUDY ...] [--insight FOLDER]

A step is a forward and a backward pass of a batch, averaged over pictures and videos as the stage mixes them, in CPU
time of the process, which equals wall time on an idle core. A stage shared by several arms or studies is counted once.
The optimizer, drawing and encoding examples, and measuring are not included.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from studies import run as running
from studies.study import Arm, Study, merged, read_study, studies

from instructx_core.errors import InputError
from instructx_core.training.config import TrainConfig
from instructx_core.training.steps import batch_generator
from instructx_core.training.tasks import make_task

FEW = {"images": 32, "videos": 8}
BATCHES = 3  # of each kind; the first warms up


def short(arm: Arm) -> Arm:
    """The arm with few examples in every stage, and so in the generator's training too."""
    stages = []
    for stage in arm.stages:
        few = {name: min(count, stage["data"][name]) for name, count in FEW.items()}
        stages.append(merged(stage, {"data": few, "validate_every": None, "validation": None}))
    return replace(arm, stages=tuple(stages))


def seconds_a_step(config: TrainConfig) -> float:
    """CPU seconds of a step, averaged over pictures and videos as the stage mixes them."""
    task, share = make_task(config), config.data.video_probability
    total = 0.0
    for is_video, part in ((False, 1 - share), (True, share)):
        begun = 0.0
        for number in range(BATCHES if part else 0):
            begun = time.process_time() if number == 1 else begun
            generator = batch_generator(0, number, 0, 0)
            task.module.zero_grad()
            task.module(task.batch(generator, is_video), generator)["loss"].backward()
        if part:
            total += part * (time.process_time() - begun) / (BATCHES - 1)
    return total


def main() -> None:
    options = running.arguments(__doc__, "a folder outside the checkout, not that of the runs")
    total, seen, known = 0.0, set(), {}
    print("| study | arm | stage | steps | s per step | hours, three seeds |\n|---|---|---|---|---|---|")
    for name in options.names or studies():
        study = read_study(name)
        few = replace(study, arms=tuple(short(arm) for arm in study.arms), generator_steps=1)
        try:
            places = running.make_places(few, options.work.resolve(), options.insight, FEW["images"])
            for arm, small in zip(study.arms, few.arms, strict=True):
                for number, stage in enumerate(arm.stages):
                    told = repr((study.base, arm.start, arm.stages[: number + 1]))
                    if told in seen:
                        continue
                    seen.add(told)
                    seconds = _known(known, few, replace(small, stages=(small.stages[number],)), places)
                    hours = len(running.SEEDS) * stage["steps"] * seconds / 3600
                    total += hours
                    row = (name, arm.name, number + 1, stage["steps"], f"{seconds:.2f}", f"{hours:.2f}")
                    print(f"| {' | '.join(map(str, row))} |", flush=True)
        except InputError as error:
            print(f"| {name} | {error} | | | | |", flush=True)
    print(f"| all | | | | | {total:.1f} |")


def _known(known: dict[str, float], study: Study, arm: Arm, places: running.Places) -> float:
    """The seconds of the arm's last stage; stages that differ only in groups, seeds or rates are measured once."""
    stage = dict(arm.stage)
    fields = ("image_batch", "video_batch", "video_probability", "lengths", "sizes")
    data = {name: stage["data"].get(name) for name in fields}
    what = [stage.get(name) for name in ("task", "train", "use_source", "image_stream", "reading_weight")]
    key = repr((study.base, arm.start, data, what))
    if key not in known:
        known[key] = seconds_a_step(running.stage_configs(study, arm, 0, places)[-1])
    return known[key]


if __name__ == "__main__":
    main()
