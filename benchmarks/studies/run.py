"""Run studies: every arm with three seeds, one JSON a run. Whatever is done already is not done again.

    python benchmarks/studies/run.py WORK [STUDY ...]        all studies by default
    python benchmarks/studies/report.py                       docs/evidence.md and its plots, from the JSON

WORK, outside of the checkout, keeps the generator that all runs start from, training states and models; a killed run
goes on from its last state. Results are benchmarks/studies/results/STUDY/ARM-SEED.json. A run's JSON holds nothing that
changes from one time to the next on the same machine with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import alignment
from studies.study import BASE, RESULTS, Arm, Study, file_name, read_study, result_file, studies

from instructx_core import Editor
from instructx_core.atomic import partial_file
from instructx_core.evaluation import Medium, evaluate
from instructx_core.families.instructx.folder import BUNDLED
from instructx_core.training.config import TrainConfig, read_train_config
from instructx_core.training.editing import EditingTask
from instructx_core.training.new_model import make_model
from instructx_core.training.tasks import make_task

SEEDS = (0, 1, 2)
VARIANTS = alignment.CONFIGS / "paper" / "variants"


def run_arm(study: Study, arm: Arm, seed: int, work: Path, generator: Path) -> dict[str, Any]:
    """Train and measure one arm; what is in its folder already is taken."""
    folder = work / study.name / f"{file_name(arm.name)}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "start").is_dir():
        changes = [f"{key}={value}" for key, value in arm.start.items() if key != "variant"]
        variant = VARIANTS / f"{arm.start['variant']}.yaml" if "variant" in arm.start else None
        parts = (BUNDLED / "mllm", generator / "transformer", BUNDLED / "vae")
        make_model(folder / "start", *parts, changes, seed, variant)
    stage = dict(arm.stage) | {"output": str(folder / "stage"), "start": {"model": str(folder / "start")}, "seed": seed}
    stage["data"] = {"pool": str(work / "pools" / _pool(arm)), **stage["data"]}
    (folder / "stage.yaml").write_text(yaml.safe_dump(stage), encoding="utf-8")
    config = read_train_config(folder / "stage.yaml")
    module = make_task(config).module
    trained = sum(value.numel() for value in module.parameters() if value.requires_grad)
    model, _ = alignment.trained(config)
    if study.medium == "alignment":
        measured = {"alignment": _alignment(config, model)}
    else:
        report = evaluate(Editor.from_pretrained(model, device="cpu", dtype=torch.float32), **arm.measure)
        measured = {"images": _medium(report.images), "videos": _medium(report.videos)}
    return {
        "study": study.name,
        "arm": arm.name,
        "seed": seed,
        "steps": config.steps,
        "trained_parameters": trained,
        "generator_steps": study.generator_steps,
        **measured,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }


def _alignment(config: TrainConfig, model: Path) -> dict[str, float]:
    """The held-out loss before and after, always with the same noise."""
    before, after = (
        alignment.held_out_loss(EditingTask(replace(config, start={"model": str(start)})))
        for start in (config.start["model"], model)
    )
    return {"before": before, "loss": after}


def _pool(arm: Arm) -> str:
    """Examples are encoded once for all arms with the same data."""
    given = {"data": dict(arm.stage["data"]), "frames": arm.start.get("guidance.video_frames")}
    del given["data"]["video_probability"]
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:12]


def _medium(medium: Medium | None) -> dict[str, Any] | None:
    """Groups, and means over all of their samples."""
    if medium is None:
        return None
    rates = medium.groups
    total = sum(rate.n for rate in rates.values())
    ablated = {name: rate.success for name in ("zeroed", "shuffled") if (rate := getattr(medium, name))}
    return {
        "n": total,
        "success": sum(rate.success * rate.n for rate in rates.values()) / total,
        "left": sum(rate.remaining * rate.n for rate in rates.values()) / total,
        "psnr": sum(rate.psnr * rate.n for rate in rates.values()) / total,
        "unedited_psnr": medium.unedited_psnr,
        "flicker": medium.flicker,
        **ablated,
        "groups": {
            name: {"n": r.n, "success": r.success, "left": r.remaining, "psnr": r.psnr} for name, r in rates.items()
        },
    }


def run(names: list[str], work: Path, results: Path, seeds: tuple[int, ...] = SEEDS, base: Path = BASE) -> None:
    """All runs of these studies that have no JSON yet."""
    work = work.resolve()
    for name in names:
        study = read_study(name, base)
        drawing = alignment.generator_config(work, [f"steps={study.generator_steps}", *_generator_data(study)])
        generator, _ = alignment.trained(drawing)
        for seed in seeds:
            for arm in study.arms:
                path = result_file(results, name, arm.name, seed)
                if path.is_file():
                    continue
                start = time.monotonic()
                found = run_arm(study, arm, seed, work, generator)
                path.parent.mkdir(parents=True, exist_ok=True)
                with partial_file(path) as partial:
                    partial.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
                print(f"{name}, {arm.name}, seed {seed}: {(time.monotonic() - start) / 60:.1f} minutes", flush=True)


def _generator_data(study: Study) -> list[str]:
    """The generator draws pictures of the studies' size."""
    data = study.arms[0].stage["data"]
    return [f"data.sizes={data['sizes']}", f"data.images={data['images']}", f"data.image_batch={data['image_batch']}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="a folder outside of the checkout")
    parser.add_argument("names", metavar="STUDY", nargs="*", help=f"of {', '.join(studies())}")
    options = parser.parse_args()
    run(options.names or studies(), options.work, RESULTS)


if __name__ == "__main__":
    main()
