"""Measure the tiny model and what its image alignment adapter (IAA) contributes, like the paper's Table 4."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from instructx_core.editor import Editor
from instructx_core.evaluation import evaluate
from instructx_core.families.tiny.config import TinySettings
from instructx_core.training.config import read_train_config
from instructx_core.training.stages import train
from instructx_core.world import EDIT_KINDS

if TYPE_CHECKING:
    from instructx_core.evaluation.report import Medium

FLOORS = {"mean": 0.65, "worst": 0.35, "zeroed": 0.10}  # the last is an upper bound
GOALS = {"mean": 0.80, "worst": 0.50}
SEEDS = (0, 1, 2)


def measure(model: Path, images: int, target: Path | None = None) -> str:
    """Success of the single kinds on held-out pictures, next to the floors; also as JSON in `target`."""
    found = _evaluated(Editor.from_pretrained(model, device="cpu"), images)
    mean, worst = _mean(found), min(found.groups.items(), key=lambda item: item[1].success)
    lines = [f"| {name} | {rate.success:.3f} | {rate.n} |" for name, rate in found.groups.items()]
    lines += [
        f"| **all single kinds** | **{mean:.3f}** | floor {FLOORS['mean']}, goal {GOALS['mean']} |",
        f"| worst: {worst[0]} | {worst[1].success:.3f} | floor {FLOORS['worst']}, goal {GOALS['worst']} |",
        f"| [MM] zeroed | {found.zeroed.success:.3f} | below {FLOORS['zeroed']} |",
        f"| unedited pixels | {found.unedited_psnr:.1f} dB | the VAE alone {found.unedited_vae_psnr:.1f} dB |",
    ]
    if target is not None:
        target.write_text(json.dumps(asdict(found), indent=1) + "\n", encoding="utf-8")
    return "\n".join(["| kind | success | |", "|---|---|---|", *lines])


def ablate(config: Path, runs: Path, steps: int, images: int, changes: Sequence[str] = ()) -> str:
    """Train stage 3 with and without the IAA from the existing stage 2; measure with it, at lambda 0, and without.

    Pictures are measured as drawn, even where the model would keep its source's pixels.

    Args:
        config: of stage 3.
        runs: folder of the recipe's stages; the ablation's are written to `ablation` in it.
        steps: of each of the six runs, which resume if interrupted.
    """
    table: dict[str, list[tuple[float, float]]] = {"with IAA": [], "the same, lambda 0": [], "trained without": []}
    for seed in SEEDS:
        for name in ("with", "without"):
            output = runs / f"ablation/{name}-{seed}-{steps}"
            start = {"model": f"{runs}/editing/model"} | ({"clip": f"{runs}/clip/model/clip"} if name == "with" else {})
            given = [*changes, f"steps={steps}", f"seed={seed}", f"output={output}", f"start={json.dumps(start)}"]
            if name == "without":
                given += ["train=[queries, lora, qformer, bim, transformer]", "image_stream=0"]
            if not (output / "model").is_dir():
                train(read_train_config(config, given), resume=True)
            editor = Editor.from_pretrained(output / "model", device="cpu")
            editor.config = replace(editor.config, tiny=TinySettings("velocity"))
            if name == "with":
                table["with IAA"].append(_numbers(editor, images))
            editor.config = replace(editor.config, sampling=replace(editor.config.sampling, image_stream=0.0))
            table["the same, lambda 0" if name == "with" else "trained without"].append(_numbers(editor, images))
    lines = ["| | success | unedited pixels, dB |", "|---|---|---|"]
    for name, runs_of in table.items():
        lines.append(f"| {name} | " + " | ".join(_with_error(column) for column in zip(*runs_of, strict=True)) + " |")
    return "\n".join([*lines, f"Mean and standard error over {len(SEEDS)} seeds."])


def _evaluated(editor: Editor, images: int) -> Medium:
    report = evaluate(editor, images=images, videos=0, groups=EDIT_KINDS)
    assert report.images is not None
    return report.images


def _numbers(editor: Editor, images: int) -> tuple[float, float]:
    found = _evaluated(editor, images)
    return _mean(found), found.unedited_psnr or 0.0


def _mean(found: Medium) -> float:
    return statistics.mean(rate.success for rate in found.groups.values())


def _with_error(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.3f} +- {statistics.stdev(values) / len(values) ** 0.5:.3f}"
