"""Training runs whose losses are recorded in tests/support/golden/training.json; random models as in golden_runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from instructx_core.training.config import read_train_config
from instructx_core.training.stages import train
from support import golden_runs
from support.training_runs import scalars, write_config

FILE = golden_runs.GOLDEN / "training.json"
STEPS = 20
# name -> the random model that it starts from, and more of its config
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "paper": ("source-latent", {"train": ["queries", "lora", "connector", "transformer"]}),
    "tiny": (
        "source-embedding",
        {
            "task": "tiny-editing",
            "optimizer": "muon",
            "muon_rate": 3e-3,
            "loss": "data",
            "noise": {"kind": "logit_normal", "mean": 2.5, "std": 1.5},
            "betas": [0.9, 0.99],
            "balance": 1.0,
            "edited_weight": 4.0,
            "channel_emphasis": 1.0,
            "drop_instruction": 0.1,
            "drop_source": 0.1,
            "accumulate": 2,
            "average": 0.9,
        },
    ),
}


def run(name: str, folder: Path) -> list[float]:
    """The loss of every step."""
    model, changes = RUNS[name]
    data = {
        "images": 8, "videos": 4, "image_batch": 4, "video_batch": 2, "sizes": [[48, 48]], "lengths": [5],
        "video_probability": 0.4,
    }  # fmt: skip
    start = {"model": str(golden_runs.make_random(model, folder / "start"))}
    plain = {"task": "editing", "output": str(folder / "run"), "steps": STEPS, "start": start, "data": data}
    plain |= {"learning_rate": 1e-3, "warmup": 5, "log_every": 1, "seed": 3, **changes}
    train(read_train_config(write_config(folder / "c.yaml", **plain)))
    return scalars(folder / "run", "loss")
