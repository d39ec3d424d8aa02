"""How long `import instructx_core` takes on top of torch, which programs that use it have usually imported anyway.

Each measurement is a fresh Python process, so only the files are cached. Goal: under 0.3 s.

    python benchmarks/import_time.py
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GOAL = 0.3  # seconds
IMPORTS = (
    ("import torch", "pass", "import torch"),
    ("import instructx_core", "import torch", "import instructx_core"),
    ("from instructx_core import Editor", "import torch", "from instructx_core import Editor"),
    ("import instructx_core.cli", "import torch", "import instructx_core.cli"),
)


def seconds(before: str, statement: str) -> float:
    """Time `statement` in a fresh process that has run `before`."""
    code = (
        f"{before}\nfrom time import perf_counter\nstart = perf_counter()\n{statement}\nprint(perf_counter() - start)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description="Import time of instructx_core on top of torch.")
    parser.add_argument("--repeats", type=int, default=5, help="processes for each line (default: %(default)s)")
    repeats = max(1, parser.parse_args().repeats)

    # interleaved, so that load on the machine affects all lines alike; the first round fills the file cache
    rounds = [[seconds(before, statement) for _, before, statement in IMPORTS] for _ in range(repeats + 1)][1:]
    print(f"{'median of ' + str(repeats):<36}seconds")
    for (name, before, _), times in zip(IMPORTS, zip(*rounds, strict=True), strict=True):
        note = "" if before == "pass" else ", torch loaded"
        goal = f"  (goal: under {GOAL})" if name == "import instructx_core" else ""
        print(f"{name + note:<48}{statistics.median(times):8.3f}{goal}")


if __name__ == "__main__":
    main()
