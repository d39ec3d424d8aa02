"""Make docs/evidence.md and its plots from the JSON of all runs: `python benchmarks/studies/report.py`.

For every study: mean and standard error of each arm over seeds, the difference of the two arms that the paper compares
(paired by seed) with its 95 % interval by Student's t, and whether the paper's arm is better or worse. If that arm is
below .40 success, or the interval covers 0, the verdict is "not resolved at this size". A single seed has no interval.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from studies.study import RESULTS, Study, read_study, result_file, studies

from instructx_core.atomic import partial_file
from instructx_core.evaluation.plotting import Bar, draw_bars, draw_lines, new_figure, save_figure

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "evidence.md"
HEAD = """# Evidence

The paper's comparisons at a small scale. All runs of a study start from the same generator DiT, MLLM and VAE, those of
InsightEdit from one stage 2; its arms differ only in what its file `benchmarks/studies/*.yaml` names. Tables show the
mean and standard error over seeds.
*left* is the share of the way from source to target that an edit leaves (lower is better), *success* is as in
`instructx evaluate`, *psnr* that of whole frames in dB, *unedited_psnr* that of what an edit should leave alone.
*flicker* is how much unedited pixels of a video change from frame to frame, as a multiple of the target's. *loss* is
the held-out error of flow matching after the stage, *before* the same error before the stage. *seam* is how much more
unedited pixels of a long clip change over a join of two windows than elsewhere; *last* is *left* in its last window.
Where sentences are compared, *left* and *success* are of edits asked for in advanced words, *plain_left* and
*plain_success* of the same ones in plain words. Curves show the training error, averaged over seeds.
`python benchmarks/studies/report.py` makes this page from the JSON of the runs;
[benchmarks/studies/README.md](../benchmarks/studies/README.md) says what they cost.
"""
EDITS = ("left", "success", "psnr")
MEASURES = {  # the first one decides; lower is better
    "images": (*EDITS, "unedited_psnr"),
    "videos": (*EDITS, "unedited_psnr", "flicker"),
    "alignment": ("loss", "before"),
    "long": ("seam", "success", "left", "last"),
    "sentences": ("left", "success", "plain_left", "plain_success"),
}
T95 = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571}  # number of seeds -> Student's t
LEAST_SUCCESS = 0.40
MOST_SEEDS = 6


def runs_of(study: Study, results: Path) -> dict[str, list[dict[str, Any]]]:
    """Arm -> its runs, by seed."""
    found: dict[str, list[dict[str, Any]]] = {}
    for arm in study.arms:
        paths = (result_file(results, study.name, arm.name, seed) for seed in range(MOST_SEEDS))
        found[arm.name] = [json.loads(path.read_text("utf-8")) for path in paths if path.is_file()]
    return found


def mean_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error, NaN for a single value."""
    return statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def verdict(first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]], on: str) -> tuple[str, str]:
    """The difference in words, and the verdict on it."""
    pairs = [(a[on], b[on]) for a in first for b in second if a["seed"] == b["seed"]]
    if not pairs:
        return "no seed of both arms", "not run yet"
    decides = MEASURES[on][0]
    gaps = [a[decides] - b[decides] for a, b in pairs]
    mean, error = mean_error(gaps)
    if len(gaps) == 1:
        return f"{decides} {mean:+.3f}", "one seed, no interval"
    half = T95[len(gaps)] * error
    told = f"{decides} {mean:+.3f} ({mean - half:+.3f} to {mean + half:+.3f})"
    baseline = statistics.fmean(a.get("success", 1.0) for a, _ in pairs)
    if baseline < LEAST_SUCCESS or abs(mean) <= half:
        return told, "not resolved at this size"
    return told, "better" if mean < 0 else "worse"


def section(study: Study, results: Path, images: Path) -> str:
    found, measures = runs_of(study, results), MEASURES[study.medium]
    lines = [f"## {study.figure}: {study.question}", "", f"*The paper says*: {study.paper}.", ""]
    if not any(found.values()):
        return "\n".join(
            [*lines, f"*Here*: not run yet; run `python benchmarks/studies/run.py WORK {study.name}`.", ""]
        )
    lines += ["| arm | seeds | steps | trained parameters | " + " | ".join(measures) + " |"]
    lines.append("|---" * (4 + len(measures)) + "|")
    for arm, runs in found.items():
        if runs:
            cells = [_cell(runs, study.medium, name) for name in measures]
            head = f"| {arm} | {len(runs)} | {runs[0]['steps']} | {runs[0]['trained_parameters']:,}"
            lines.append(f"{head} | {' | '.join(cells)} |")
    lines += _by_kind(found, study.medium)
    told, agrees = verdict(*(found[arm] for arm in study.compare), study.medium)
    lines += ["", f"*Here*: {study.compare[0]} against {study.compare[1]}, {told}: **{agrees}**.", ""]
    if study.remark:
        lines += [f"{study.remark[0].upper()}{study.remark[1:]}.", ""]
    parts = {part for runs in found.values() for run in runs for part in run["began_from"].items()}
    began = Counter(name for name, _ in parts)
    if differing := [name for name, digests in sorted(began.items()) if digests > 1]:
        lines += [f"**These runs did not all start from the same {' and '.join(differing)}.**", ""]
    ablated = [run[study.medium] for run in found[study.compare[0]] if "zeroed" in run[study.medium]]
    if ablated:
        told = (f"{name} {statistics.fmean(run[name] for run in ablated):.3f}" for name in ("zeroed", "shuffled"))
        lines += [f"Success of {study.compare[0]} with its context {' and '.join(told)}.", ""]
    images.mkdir(parents=True, exist_ok=True)
    figure, panels = new_figure(7, 3, 2)
    bars = {
        arm: {name: _bar(*_of(runs, study.medium, name)) for name in measures[:2]}
        for arm, runs in found.items()
        if runs
    }
    draw_bars(panels[0], bars, measures[:2], f"{study.figure}, {study.medium}: mean and standard error over seeds")
    curves = {arm: _curve(runs) for arm, runs in found.items() if runs}
    draw_lines(panels[1], curves, "step of the last stage", "error of training")
    save_figure(figure, images / f"{study.name}.png")
    return "\n".join([*lines, f"![{study.question}](images/evidence/{study.name}.png)", ""])


def _by_kind(found: dict[str, list[dict[str, Any]]], on: str) -> list[str]:
    """A table of each arm's success by kind of edit, averaged over seeds; empty for fewer than two kinds."""
    groups = {arm: [run[on].get("groups", {}) for run in runs] for arm, runs in found.items() if runs}
    kinds = list(next(iter(groups.values()))[0])
    if len(kinds) < 2:
        return []
    lines = ["", f"| success by kind | {' | '.join(kinds)} |", "|---" * (1 + len(kinds)) + "|"]
    for arm, runs in groups.items():
        means = (statistics.fmean(run[kind]["success"] for run in runs) for kind in kinds)
        lines.append(f"| {arm} | {' | '.join(f'{mean:.2f}' for mean in means)} |")
    return lines


def _cell(runs: Sequence[dict[str, Any]], on: str, name: str) -> str:
    """Mean and, from two runs on, standard error; "-" if a run lacks the measure, as when no pixel stays unedited."""
    if any(run[on].get(name) is None for run in runs):
        return "-"
    mean, error = _of(runs, on, name)
    return f"{mean:.3f}" if math.isnan(error) else f"{mean:.3f} ± {error:.3f}"


def _of(runs: Sequence[dict[str, Any]], on: str, name: str) -> tuple[float, float]:
    return mean_error([run[on][name] for run in runs])


def _curve(runs: Sequence[dict[str, Any]]) -> list[tuple[int, float]]:
    """The training error by step, averaged over all seeds."""
    by_step: dict[int, list[float]] = {}
    for run in runs:
        for step, value in run.get("curve", ()):
            by_step.setdefault(step, []).append(value)
    return [(step, statistics.fmean(values)) for step, values in sorted(by_step.items())]


def _bar(mean: float, error: float) -> Bar:
    return Bar(mean) if math.isnan(error) else Bar(mean, mean - error, mean + error)


def write(results: Path = RESULTS, page: Path = PAGE) -> Path:
    """Write the page and its plots; return the page's path."""
    text = [
        HEAD,
        *(section(read_study(name), results, page.parent / "images" / "evidence") for name in studies()),
    ]
    with partial_file(page) as partial:
        partial.write_text("\n".join(text).rstrip() + "\n", encoding="utf-8")
    return page


if __name__ == "__main__":
    print(write())
