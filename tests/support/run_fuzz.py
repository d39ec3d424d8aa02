"""Run fuzz cases by their seeds; a range is FIRST-LAST.

    PYTHONPATH=tests python -m support.run_fuzz KIND SEED [SEED ...]

One case shows its whole traceback and leaves its files in a folder that is named; of several, those that failed are
listed.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import traceback
from pathlib import Path
from random import Random

from support import environment

environment.settle()

from support.fuzz import READERS, one
from support.fuzz_judge import limits
from support.fuzz_shared import Case, Shared


def main() -> None:
    kind, *words = sys.argv[1:]
    seeds = [seed for word in words for seed in _range(word)]
    root = Path(tempfile.mkdtemp(prefix="fuzz-"))
    shared = Shared(root)
    if len(seeds) == 1:
        (root / "case").mkdir()
        os.chdir(root / "case")
        print(f"{kind} {seeds[0]} in {root / 'case'}")
        try:
            with limits():
                READERS[kind](Case(Random(f"{kind}-{seeds[0]}"), root / "case", shared))()
        except BaseException:
            traceback.print_exc()
        return
    for seed in seeds:
        folder = root / str(seed)
        folder.mkdir()
        os.chdir(folder)
        start = time.perf_counter()
        problem = one(kind, seed, shared, folder)
        if problem or time.perf_counter() - start > 5:
            print(f"--- {kind} {seed} ({time.perf_counter() - start:.1f} s): {problem}", flush=True)


def _range(word: str) -> range:
    first, _, last = word.partition("-")
    return range(int(first), int(last or first) + 1)


if __name__ == "__main__":
    main()
