"""The progress of a run: one line for the clips and one for each stage."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta

from .store import Made

# in the order in which a pair passes them
STAGES = (
    *("read", "cuts", "describe", "detect", "segment", "flow", "redraw", "pose", "animate", "erase"),
    *("measures", "judge", "write"),
)


class Dashboard:
    """Counts finished clips of a run."""

    def __init__(
        self,
        clips: int,
        done: int,
        workers: int = 1,
        copies: Mapping[str, int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            clips: number of clips in the footage.
            done: clips finished before this run.
            workers: processes that run the recipe.
            copies: processes of each expert that does not run in the workers.
        """
        self.clips, self.done, self._clock = clips, done, clock
        self.workers, self.copies = workers, copies or {}
        self.made = self.kept = self.pairs = 0
        self.seconds: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self._begun = clock()

    def count(self, made: Made) -> None:
        self.done, self.made = self.done + 1, self.made + 1
        self.kept, self.pairs = self.kept + made.kept, self.pairs + made.pairs
        self.seconds.update(made.seconds)
        self.dropped.update(made.dropped)

    def lines(self) -> list[str]:
        """For the run: clips per second, share of pairs kept, time left. For each stage, slowest first: its own clips
        per second, the share of time that it was busy, the share of its pairs that it kept, and its time left."""
        spent, left = max(self._clock() - self._begun, 1e-9), self.clips - self.done
        rate = self.made / spent
        share = f"{self.kept / self.pairs:.0%} of {self.pairs} pairs kept, " if self.pairs else ""
        lines = [f"clips: {self.done} of {self.clips}, {rate:.2f} clips/s, {share}{_time(left, rate)} left"]
        on = {name: self.copies.get(name, self.workers) for name in self.seconds}
        each = {name: seconds / on[name] for name, seconds in self.seconds.items() if seconds}
        for name, seconds in sorted(each.items(), key=lambda entry: -entry[1]):
            alone = self.made / seconds
            busy = min(seconds / spent, 1.0)
            lines.append(
                f"  {name}: {alone:.2f} clips/s on {on[name]}, busy {busy:.0%}, {self._passed(name)}"
                f"{_time(left, alone)} left"
            )
        return lines

    def _passed(self, stage: str) -> str:
        before = STAGES[: STAGES.index(stage)] if stage in STAGES else ()
        came = self.pairs - sum(self.dropped[name] for name in before)
        return f"{1 - self.dropped[stage] / came:.0%} kept, " if came else ""


def _time(clips: int, rate: float) -> str:
    return str(timedelta(seconds=round(clips / rate))) if rate else "unknown time"
