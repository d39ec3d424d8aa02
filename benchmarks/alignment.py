"""Test that stage 1 of the paper aligns new queries, LoRA and connector with a frozen DiT that draws from captions.

Runs on the tiny world in four parts; each is kept in FOLDER and not repeated, and an interrupted one resumes:

1. `stage0-generator.yaml` teaches a DiT to draw from captions. VAE and MLLM are the bundled model's.
2. `instructx new` adds new queries, LoRA and connector to that MLLM and DiT.
3. `paper/stage1.yaml` trains only these: pictures only, no source, velocity loss, 128 pictures per step. Only the
   data, the number of steps and the learning rate differ from the file (1e-5 is for billions of parameters).
4. The flow-matching loss is measured on held-out pictures, always with the same noise at stage 1's noise levels: for
   the generator with a context of zeros, with an empty caption and with the caption; for stage 1 with the source
   picture and the instruction, before and after. Stage 1 closes (zeros - after) / (zeros - caption) of the gap.

    python benchmarks/alignment.py FOLDER [--generator-steps N] [--steps 300] [--set KEY=VALUE, of both stages]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from instructx_core.context import Context
from instructx_core.errors import InputError
from instructx_core.families.instructx.folder import BUNDLED
from instructx_core.training.config import TrainConfig, read_train_config
from instructx_core.training.editing import EditingTask
from instructx_core.training.new_model import make_model
from instructx_core.training.stages import train
from instructx_core.training.steps import batch_generator
from instructx_core.training.tasks import make_task
from instructx_core.words import quoted_path
from recipes.tiny.config import TinyTrainConfig

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "instructx_core" / "training" / "configs"
FIRST = ROOT / "recipes" / "tiny" / "first"
LEAST = 0.3  # share of the gap to close
HELD_OUT = 256
DRAWS = 4  # of noise, for every picture
MEASURED = 1 << 29  # used as the process number, for noise that no training batch has
PARTS = {"queries": "guidance.queries.", "lora": "guidance.mllm.", "connector": "connector."}
# for both stages: no groups with references, which the generator's captions cannot express
GROUPS = "{recolor: 1, remove: 1, add: 2, replace: 2, background: 0.7, grayscale: 0.4, invert: 0.5, hybrid: 1.5}"
WORLD = ("data.images=12000", "data.videos=0", "data.sizes=[[64, 64]]", f"data.groups={GROUPS}")
# for the new model, as in the generator's config
GUIDANCE = ("guidance.image_queries=8", "guidance.video_queries=16", "guidance.lora_rank=32",
            "guidance.max_pixels=6272", "connector.hidden_dim=256", "default_size=[64, 64]",
            "default_frames=9")  # fmt: skip


class Zeros(nn.Module):
    """Replaces a connector: the context has its shape, but zeros as tokens."""

    def __init__(self, connector: nn.Module) -> None:
        super().__init__()
        self.connector = connector

    def forward(self, guidance: Context, reference_places: int = 0) -> Context:
        context = self.connector(guidance, reference_places)
        return replace(context, tokens=torch.zeros_like(context.tokens))


def generator_config(folder: Path, changes: Sequence[str]) -> TinyTrainConfig:
    start = [f"start.vae={BUNDLED / 'vae'}", f"start.mllm={BUNDLED / 'mllm'}"]
    own = [f"output={folder / 'generator'}", f"data.pool={folder / 'pool'}", f"validation={HELD_OUT}",
           "validate_every=250"]  # fmt: skip
    return read_train_config(FIRST / "stage0-generator.yaml", [*start, *own, *WORLD, *changes])


def stage1_config(folder: Path, generator: TinyTrainConfig, changes: Sequence[str]) -> TrainConfig:
    """The paper's config, on the generator's pictures."""
    own = ("data.table=null", "checkpointing=false", "validate_every=50", f"validation={HELD_OUT}", "sample_every=0")
    paths = (f"output={folder / 'stage1'}", f"start.model={folder / 'start'}")
    config = read_train_config(CONFIGS / "paper" / "stage1.yaml", [*own, *paths, *changes])
    own = ("step_images", "step_videos", "video_batch", "video_probability", "broken")
    data = replace(generator.data, **{name: getattr(config.data, name) for name in own})
    return replace(config, data=data)


def trained(config: TrainConfig) -> tuple[Path, float]:
    """Train a stage unless its model exists; return the model's folder and the minutes that this call took.

    Raises:
        InputError: the folder holds a stage with other settings.
    """
    model, begun = Path(config.output) / "model", time.perf_counter()
    asked = Path(config.output) / "asked.txt"
    if asked.is_file() and asked.read_text("utf-8") != repr(config):
        raise InputError(f"{quoted_path(config.output)} holds a stage with different settings; give another folder.")
    if not model.is_dir():
        asked.parent.mkdir(parents=True, exist_ok=True)
        asked.write_text(repr(config), encoding="utf-8")
        train(config, resume=True)
    return model, (time.perf_counter() - begun) / 60


@torch.no_grad()
def held_out_loss(task: EditingTask, empty: bool = False) -> float:
    """The mean squared error of the velocity on the held-out pictures; `empty`: with empty captions."""
    task.module.eval()
    total, count = 0.0, 0
    for number, (_, batch) in enumerate(task.validation()):
        if empty:
            batch = replace(batch, inputs=task.components.guidance.prepare([""] * len(batch), None))
        for draw in range(DRAWS):
            total += task.module(batch, batch_generator(0, draw, number, MEASURED))["error"].item() * len(batch)
            count += len(batch)
    return total / count


def gradient_norms(task: EditingTask) -> dict[str, float]:
    """The gradient norm of each part, for one batch."""
    generator = batch_generator(0, 0, 0, MEASURED)
    task.module.zero_grad()
    task.module(task.batch(generator, False), generator)["loss"].backward()
    gradients = {name: p.grad for name, p in task.module.named_parameters() if p.grad is not None}
    return {
        part: float(sum(value.square().sum() for name, value in gradients.items() if name.startswith(prefix)) ** 0.5)
        for part, prefix in PARTS.items()
    }


def measure(generator: TinyTrainConfig, stage1: TrainConfig) -> dict[str, object]:
    """All losses and gradient norms of the two trained stages."""
    as_stage1 = {"loss": stage1.loss, "noise": stage1.noise, "reading_weight": 0.0, "validate_every": 1}
    drawing = make_task(replace(generator, start={"model": f"{generator.output}/model"}, **as_stage1))
    losses = {"caption": held_out_loss(drawing), "empty caption": held_out_loss(drawing, empty=True)}
    drawing.module.connector = Zeros(drawing.module.connector)
    losses["zeros"] = held_out_loss(drawing)
    gradients = {}
    for name, model in (("before", stage1.start["model"]), ("after", f"{stage1.output}/model")):
        task = EditingTask(replace(stage1, start={"model": model}))
        losses[name], gradients[name] = held_out_loss(task), gradient_norms(task)
    closed = {
        f"beyond {none}": (losses[none] - losses["after"]) / (losses[none] - losses["caption"])
        for none in ("zeros", "empty caption")
    }
    return {"losses": losses, "gap closed": closed, "gradient norms": gradients}


def run(
    folder: Path, both: Sequence[str] = (), generator: Sequence[str] = (), stage1: Sequence[str] = ()
) -> dict[str, object]:
    """Run all four parts; changes are "key=value" for the configs of `both` stages or of one."""
    folder = folder.resolve()
    drawing = generator_config(folder, [*both, *generator])
    model, minutes = trained(drawing)
    shift = f"sampling.shift={drawing.model['sampling']['shift']}"
    if not (folder / "start").is_dir():
        make_model(folder / "start", BUNDLED / "mllm", model / "transformer", BUNDLED / "vae", [*GUIDANCE, shift])
    aligning = stage1_config(folder, drawing, [*both, *stage1])
    _, more_minutes = trained(aligning)
    settings = {
        "parts": f"VAE and MLLM of {BUNDLED.name}, DiT of stage0-generator.yaml",
        "generator": {"steps": drawing.steps, "minutes": round(minutes, 1)},
        "stage 1": {"steps": aligning.steps, "learning rate": aligning.learning_rate,
                    "pictures a step": aligning.data.step_images, "minutes": round(more_minutes, 1)},
        "held out": {"pictures": HELD_OUT, "draws of noise": DRAWS},
    }  # fmt: skip
    return {**settings, **measure(drawing, aligning)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="such as runs/alignment; keeps all stages and alignment.json")
    parser.add_argument("--generator-steps", type=int, help="training steps of the generator (default: the config's)")
    parser.add_argument("--steps", type=int, default=300, help="training steps of stage 1 (default: 300)")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate of stage 1 (default: 1e-3)")
    parser.add_argument("--set", dest="changes", action="append", default=[], help="KEY=VALUE, for both configs")
    options = parser.parse_args()
    generator = [] if options.generator_steps is None else [f"steps={options.generator_steps}"]
    found = run(options.folder, options.changes, generator, [f"steps={options.steps}", f"learning_rate={options.rate}"])
    text = json.dumps(found, indent=1)
    (options.folder / "alignment.json").write_text(text)
    print(text)
    closed = found["gap closed"]["beyond zeros"]
    print(f"{closed:.0%} of the gap closed ({'at least' if closed >= LEAST else 'MISSED:'} {LEAST:.0%} required)")


if __name__ == "__main__":
    main()
