"""Hours of all studies on this machine, from a few steps of every stage: a table in Markdown.

    OMP_NUM_THREADS=1 python benchmarks/studies/estimate.py WORK [STUDY ...] [--insight FOLDER] [--steps 5]

Stages have all their batches and sizes, and few examples. What a step takes is the process's own time, which is that
of a free core; the median after the first. A stage that several arms or studies share is counted once. Drawing and
encoding examples, and measuring, come on top.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import alignment
from studies import run as running
from studies.study import Arm, Study, merged, read_study, studies

from instructx_core.errors import InputError
from instructx_core.training.monitor import Monitor

FEW = {"images": 64, "videos": 16}


def short(arm: Arm, steps: int) -> Arm:
    """The arm with few steps and examples."""
    own = {"steps": steps, "log_every": 1, "save_every": steps, "warmup": 1, "validate_every": None}
    stages = []
    for stage in arm.stages:
        few = {name: min(count, stage["data"][name]) for name, count in FEW.items()}
        stages.append(merged(stage, own | {"data": few}))
    return replace(arm, stages=tuple(stages))


@contextmanager
def step_times() -> Iterator[list[float]]:
    """The process's time at the end of every step of a training within the block."""
    real, times = Monitor.advance, []

    def advance(self: Monitor, *arguments: Any) -> None:
        times.append(time.process_time())
        real(self, *arguments)

    Monitor.advance = advance
    try:
        yield times
    finally:
        Monitor.advance = real


def estimate(study: Study, places: running.Places, steps: int, seen: set[str]) -> list[tuple[str, int, int, float]]:
    """(arm, stage, steps, seconds a step) of each stage that is not in `seen` yet, to which it is added."""
    rows = []
    for arm in study.arms:
        for number in range(1, len(arm.stages) + 1):
            told = repr((study.base, arm.start, arm.stages[:number]))
            if told in seen:
                continue
            seen.add(told)
            few = short(replace(arm, stages=arm.stages[:number]), steps)
            with step_times() as times:
                alignment.trained(running.stage_configs(study, few, 0, places)[-1])
            spent = [after - before for before, after in pairwise(times[-steps:])]
            if not spent:
                raise SystemExit(f"{places.work} has this stage already; give a new folder")
            rows.append((arm.name, number, arm.stages[number - 1]["steps"], statistics.median(spent)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="a folder outside of the checkout, not that of the runs")
    parser.add_argument("names", metavar="STUDY", nargs="*", help=f"of {', '.join(studies())}")
    parser.add_argument("--insight", type=Path, help="of recipes.insightedit_tiny (default: WORK/insight)")
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    total, seen, seeds = 0.0, set(), len(running.SEEDS)
    print("| study | arm | stage | steps | s a step | hours, three seeds |\n|---|---|---|---|---|---|")
    for name in options.names or studies():
        study = replace(read_study(name), generator_steps=options.steps)
        places = running.make_places(study, options.work.resolve(), options.insight)
        try:
            rows = estimate(study, places, options.steps, seen)
        except InputError as error:
            print(f"| {name} | {error} | | | | |", flush=True)
            continue
        for arm, number, steps, seconds in rows:
            hours = seeds * steps * seconds / 3600
            total += hours
            print(f"| {name} | {arm} | {number} | {steps} | {seconds:.2f} | {hours:.2f} |", flush=True)
    print(f"| all | | | | | {total:.1f} |")


if __name__ == "__main__":
    main()
