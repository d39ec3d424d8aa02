"""Gain and cost of each speed option: ratio of times and PSNR against the plain DiT.

- Each option alternates with the plain DiT in one run, on the same source, words and seed; every turn gives one ratio
  of the two sampling loops' times, and the median counts.
- PSNR compares all frames of the edit with the plain one's, in dB, 100 at most.
- Fewer steps are included as options; times are extrapolated from warm steps to each one's number of steps.
- MagCache's ratios are measured first, as `instructx calibrate` would with that number of steps; no file is written.

    python benchmarks/speed.py
    python benchmarks/speed.py --model kiwi-edit-5b --source clip.mp4 --steps 50 --device cuda
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from instructx_core import Editor, InputError
from instructx_core.calibration import measure_ratios
from instructx_core.demo import DEMO_EDITS
from instructx_core.device import pick_device
from instructx_core.evaluation.metrics import psnr
from instructx_core.source import Source, load_source
from instructx_core.speed.mag_cache import MagCache
from instructx_core.speed.options import CACHES, speed_up

WAYS: dict[str, dict[str, object]] = {
    **{f"cache {name}": {"cache": name} for name in CACHES},
    "compile": {"compile": True},
    "fp8": {"fp8": True},
    "memory group": {"memory": "group"},
    "memory sequential": {"memory": "sequential"},
}
FEWER_STEPS = (8, 4, 2)
ON_CUDA: dict[str, dict[str, object]] = {f"attention {name}": {"attention": name} for name in ("flash", "sage")}


@dataclass(frozen=True, eq=False)
class Job:
    """The edit to time."""

    source: Source
    instruction: str
    steps: int
    height: int | None
    width: int | None


Way = tuple[Editor, Job]


def one_edit(editor: Editor, job: Job) -> tuple[torch.Tensor, float]:
    """The edited frames, and the seconds of all steps when warm, extrapolated from those after the first."""
    times: list[float] = []

    def note(*_: object) -> None:
        if editor.device.type == "cuda":
            torch.cuda.synchronize(editor.device)
        times.append(perf_counter())

    frames = editor.edit(
        job.source.frames, job.instruction, steps=job.steps, height=job.height, width=job.width, callback=note
    ).frames
    return frames, (times[-1] - times[0]) * job.steps / (job.steps - 1)


def compare(plain: Way, other: Way, repeats: int) -> tuple[float, float]:
    """The median ratio of times, and the PSNR [dB]."""
    one_edit(*other)  # warm-up: compiles, traces the order of blocks
    ratios = []
    for turn in range(repeats):
        order = (plain, other) if turn % 2 == 0 else (other, plain)
        results = {way: one_edit(*way) for way in order}
        ratios.append(results[other][1] / results[plain][1])
    return statistics.median(ratios), psnr(results[other][0], results[plain][0])


def measure(load: Callable[..., Editor], ways: dict[str, dict[str, object]], job: Job, repeats: int) -> None:
    """Print a row for each way, or the reason why it cannot run here."""
    plain = load(memory="full"), job
    one_edit(*plain)
    print(f"{'':<20}{'time of steps':>15}{'PSNR, dB':>12}")

    def row(name: str, make: Callable[[], Way]) -> None:
        try:
            ratio, likeness = compare(plain, make(), repeats)
        except InputError as error:
            print(f"{name:<20}  {error}", flush=True)
        else:
            print(f"{name:<20}{ratio:>15.2f}{likeness:>12.1f}", flush=True)

    for name, options in ways.items():
        row(name, lambda options=options: (load(**({"memory": "full"} | options)), job))
    for steps in FEWER_STEPS:
        row(f"{steps} steps", lambda steps=steps: (plain[0], replace(job, steps=steps)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and similarity of all ways to speed up edits.")
    parser.add_argument("--model", type=Path, help="a model folder (default: the bundled model)")
    parser.add_argument("--source", type=Path, default=DEMO_EDITS[0].source, help="default: the demo's picture")
    parser.add_argument("--instruction", default="make the red circle blue", help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--size", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), help="default: as trained")
    parser.add_argument("--device", help="default: a GPU if there is one")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each way (default: %(default)s)")
    given = parser.parse_args()
    if given.steps < 2:
        parser.error("--steps: give 2 or more; the first is not timed")

    def load(cache: str | None = None, **options: object) -> Editor:
        if cache != "mag":
            return Editor.from_pretrained(given.model, device=given.device, cache=cache, **options)
        editor = Editor.from_pretrained(given.model, device=given.device, **options)
        measured = MagCache(measure_ratios(editor, given.steps))
        speed_up(editor.denoiser.transformer, "sdpa", compile_blocks=False, cache=measured)
        return editor

    width, height = given.size or (None, None)
    job = Job(load_source(given.source), given.instruction, given.steps, height, width)
    ways = WAYS | ON_CUDA if pick_device(given.device).type == "cuda" else WAYS
    measure(load, ways, job, given.repeats)


if __name__ == "__main__":
    main()
