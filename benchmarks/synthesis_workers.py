"""Two Ray workers against one: whole runs of `instructx synthesise --workers`, with the same records.

    OMP_NUM_THREADS=1 python benchmarks/synthesis_workers.py [--clips 2000] [--frames 5] [--repeats 3]

Runs alternate. The median speed-up of whole runs, Ray's start included, must be at least 1.4 on two otherwise idle
cores; the speed-up after the first clip is printed too. Shards are compared by checksum.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from instructx_core.synthesis.config import Cluster, SynthesisConfig, WorldClips
from instructx_core.synthesis.dashboard import Dashboard
from instructx_core.synthesis.manifest import read_manifest
from instructx_core.synthesis.run import synthesise

LEAST = 1.4


def run(output: Path, workers: int, clips: int, frames: int) -> tuple[float, float]:
    """Seconds of a whole run, and of its part after the first clip."""
    config = SynthesisConfig("add_remove", str(output), world=WorldClips(clips, frames), shard=64)
    first: list[float] = []

    def note(dashboard: Dashboard) -> None:
        if not first:
            first.append(time.monotonic())

    begun = time.monotonic()
    synthesise(config, progress=note, cluster=Cluster(workers))
    end = time.monotonic()
    return end - begun, end - first[0]


def sums(output: Path) -> dict[str, str]:
    return {name: told["sha256"] for entry in read_manifest(output) for name, told in entry["files"].items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent)  # for the workers
    ratios, wholes, same = [], [], set()
    for number in range(options.repeats):
        times = {}
        for workers in (1, 2) if number % 2 == 0 else (2, 1):
            with tempfile.TemporaryDirectory() as folder:
                times[workers] = run(Path(folder) / "out", workers, options.clips, options.frames)
                same.add(json.dumps(sums(Path(folder) / "out"), sort_keys=True))
        wholes.append(times[1][0] / times[2][0])
        ratios.append(times[1][1] / times[2][1])
        told = ", ".join(f"{n} worker{'s' * (n > 1)} {times[n][0]:.1f} s ({times[n][1]:.1f} s)" for n in (1, 2))
        print(f"{told}: {wholes[-1]:.2f} x whole, {ratios[-1]:.2f} x after the first clip", flush=True)
    median = statistics.median(wholes)
    print(f"median {median:.2f} x whole, {statistics.median(ratios):.2f} x after the first clip; required: {LEAST} x")
    print(f"records {'the same' if len(same) == 1 else 'DIFFER'} in all {2 * options.repeats} runs")
    sys.exit(0 if median >= LEAST and len(same) == 1 else 1)


if __name__ == "__main__":
    main()
