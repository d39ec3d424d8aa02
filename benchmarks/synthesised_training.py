"""Test that a model learns as well from synthesised shards as from the world's own examples.

Both arms start from the bundled model's VAE, MLLM and DiT with untrained queries, LoRA and connector, and train in the
same way for 300 steps on equally many pairs of removals and additions at 64 x 64 pixels: drawn from the world in one
arm, read from shards that `instructx synthesise` made of world clips in the other. Both are measured on the same
held-out edits. The floor: with three seeds, the arms' means of *left* (the share of the change to the target that an
edit leaves undone) differ by at most two standard errors of their difference.

    OMP_NUM_THREADS=1 python benchmarks/synthesised_training.py WORK [--steps 300] [--clips 1200] [--seeds 3]

WORK, outside the checkout, keeps shards, starts, states, and one JSON per run; an interrupted run resumes from there.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import recipes.tiny  # noqa: F401  its kind of stage
from instructx_core import Editor
from instructx_core.atomic import atomic_folder, partial_file
from instructx_core.connectors import make_connector
from instructx_core.evaluation import evaluate
from instructx_core.families.instructx.folder import BUNDLED
from instructx_core.synthesis.config import SynthesisConfig, WorldClips
from instructx_core.synthesis.run import synthesise
from instructx_core.training.config import read_train_config
from instructx_core.training.stages import train
from instructx_core.weights.marks import ADAPTER

RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "tiny" / "05-clips.yaml"
ARMS = ("world", "synthesised")
GROUPS = ("remove", "add")
BATCH = 8
BOUND = 2.0  # standard errors


def untrained(folder: Path, seed: int) -> Path:
    """The bundled model with fresh queries, LoRA and connector."""
    if folder.is_dir():
        return folder
    with atomic_folder(folder) as partial:
        shutil.copytree(BUNDLED, partial, dirs_exist_ok=True)
        config = Editor.from_pretrained(BUNDLED, device="cpu").config.connector
        torch.manual_seed(seed)
        connector = {f"connector.{name}": value for name, value in make_connector(config).state_dict().items()}
        with safe_open(BUNDLED / ADAPTER, "pt") as stored:
            tensors = {name: _fresh(name, stored.get_tensor(name), connector) for name in stored.keys()}  # noqa: SIM118
            metadata = stored.metadata()
        save_file(tensors, partial / ADAPTER, metadata)
    return folder


def _fresh(name: str, value: torch.Tensor, connector: dict[str, torch.Tensor]) -> torch.Tensor:
    """Untrained values; the weights with which the DiT reads its source stay as they are."""
    if name in connector:
        return connector[name].to(value.dtype).contiguous()
    if name.startswith("queries."):
        return torch.randn(value.shape).mul(value.float().std()).to(value.dtype)
    if ".lora_A." in name:
        fresh = nn.init.kaiming_uniform_(torch.empty(value.shape, dtype=torch.float32), a=math.sqrt(5))
        return fresh.to(value.dtype)
    return torch.zeros_like(value) if ".lora_B." in name else value


def run_arm(arm: str, seed: int, work: Path, clips: int, steps: int, measured: int) -> dict[str, Any]:
    """Train one arm with one seed and measure it."""
    folder = work / f"{arm}-{seed}-{clips}-{steps}"
    data = {"table": str(work / f"shards-{clips}" / "kept")} if arm == "synthesised" else {"images": 2 * clips}
    data |= {"sizes": "[[64, 64]]", "pool": str(work / f"pool-{arm}-{clips}"), "video_probability": 0.0, "videos": 0}
    data |= {"groups": "{remove: 1, add: 1}", "world": "plain", "held_out_from_video": "[]", "image_batch": BATCH}
    changes = [f"data.{name}={value}" for name, value in data.items()]
    changes += [f"output={folder}", f"start.model={untrained(work / f'start-{seed}', seed)}", f"seed={seed}"]
    changes += [f"steps={steps}", "sample_every=0", "average=0.98"]
    config = read_train_config(RECIPE, changes)
    begun = time.monotonic()
    model = Path(config.output) / "model"
    if not model.is_dir():
        train(config, resume=True)
    minutes = (time.monotonic() - begun) / 60
    return {"arm": arm, "seed": seed, "steps": steps, "minutes": round(minutes, 1), **left_by(model, measured)}


def left_by(model: Path, measured: int) -> dict[str, float]:
    """Mean *left* and success of a model's edits of held-out pictures."""
    editor = Editor.from_pretrained(model, device="cpu", dtype=torch.float32)
    images = evaluate(editor, images=measured, videos=0, groups=GROUPS).images
    assert images is not None
    rates = images.groups.values()
    total = sum(rate.n for rate in rates)
    return {
        "left": sum(rate.remaining * rate.n for rate in rates) / total,
        "success": sum(rate.success * rate.n for rate in rates) / total,
    }


def kept_json(path: Path, make: Any) -> dict[str, Any]:
    """The content of a JSON file, which is first written with the result of `make` if it is missing."""
    if not path.is_file():
        found = make()
        with partial_file(path) as partial:
            partial.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(found), flush=True)
    return json.loads(path.read_text("utf-8"))


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Both arms' means, and their distance in standard errors of the difference."""
    lefts = {arm: [run["left"] for run in runs if run["arm"] == arm] for arm in ARMS}
    means = {arm: statistics.fmean(values) for arm, values in lefts.items()}
    error = math.sqrt(sum(statistics.variance(values) / len(values) for values in lefts.values()))
    apart = abs(means["synthesised"] - means["world"]) / error
    return {"left": means, "standard error of the difference": error, "apart": apart, "met": apart <= BOUND}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--clips", type=int, default=1200, help="footage clips; each gives a removal and an addition")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--measured", type=int, default=100, help="held-out pictures per kind")
    options = parser.parse_args()
    work = options.work.resolve()
    shards = SynthesisConfig(
        "add_remove", str(work / f"shards-{options.clips}"), world=WorldClips(options.clips, 1), references=False
    )
    print(f"{synthesise(shards).kept} pairs", flush=True)
    before = kept_json(
        work / f"start-{options.measured}.json", lambda: left_by(untrained(work / "start-0", 0), options.measured)
    )
    runs = []
    for seed in range(options.seeds):
        for arm in ARMS:
            plan = (arm, seed, work, options.clips, options.steps, options.measured)
            runs.append(
                kept_json(work / f"{'-'.join(map(str, (arm, seed, *plan[3:])))}.json", lambda plan=plan: run_arm(*plan))
            )
    found = {"before": before, **summary(runs), "runs": runs}
    (work / "summary.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
