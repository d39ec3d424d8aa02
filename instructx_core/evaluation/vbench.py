"""VBench scores of clips, from its own command: `motion_smoothness` and `aesthetic_quality` of InstructX's Tab. 3.

VBench is not a dependency: it pins old libraries, so install it in a separate environment with `vbench` on the PATH.
It downloads its networks itself (AMT-S; CLIP ViT-L/14 with LAION's head), so it runs only on request.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from ..errors import InputError
from ..words import one_line

DIMENSIONS = ("motion_smoothness", "aesthetic_quality")


def find_vbench() -> str:
    """The path of VBench's command. Raises InputError if it is not installed."""
    program = shutil.which("vbench")
    if program is None:
        raise InputError(
            "`vbench` is not on the PATH; install it in a separate environment (`pipx install vbench`) and run again; "
            "it fetches its networks itself."
        )
    return program


def run_vbench(videos: Path) -> dict[str, float]:
    """Dimension -> mean over the clips in a folder (or one file), in [0, 1].

    Raises:
        InputError: VBench is not installed, or it failed.
    """
    program = find_vbench()
    scores = {}
    with tempfile.TemporaryDirectory(prefix="instructx-") as folder:
        for dimension in DIMENSIONS:
            inner = Path(folder) / dimension
            command = [program, "evaluate", "--videos_path", str(videos), "--dimension", dimension]
            done = subprocess.run(
                [*command, "--mode", "custom_input", "--output_path", str(inner)],
                capture_output=True, text=True, errors="replace", check=False,
            )  # fmt: skip
            found = sorted(inner.rglob("*eval_results.json"))
            if done.returncode or not found:
                last = next(reversed([line for line in done.stderr.splitlines() if line.strip()]), "no message")
                raise InputError(
                    f"vbench failed at {dimension} ({one_line(last, 200)}); run it separately to see more."
                )
            scores[dimension] = _mean_of(found[-1], dimension)
    return scores


def _mean_of(path: Path, dimension: str) -> float:
    """The mean in VBench's results: {dimension: [mean, [{video_path, video_results}, ...]]}."""
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))[dimension][0])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(f"vbench wrote no readable {dimension} score; install version 0.1.5.") from error
