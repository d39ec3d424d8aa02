"""The training loop: one for every stage, on one CPU, one GPU or many processes, through `accelerate`.

- A batch and its noise are functions of (seed, step, micro-batch, process) alone, so a resumed run repeats exactly what
  an uninterrupted one would have seen.
- A saved state is complete or absent: it is written beside its place and renamed; the two newest are kept.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from ..checkpoints.files import atomic_folder
from ..errors import InputError
from .config import TrainConfig
from .processes import on_cpu

logger = logging.getLogger(__name__)
KEPT_STATES = 2
FINAL_RATE = 0.02


class Task(Protocol):
    """What a stage brings to the loop."""

    module: nn.Module  # its forward(batch, generator) gives {"loss": scalar, ...}; frozen parameters need no gradient

    def batch(self, generator: torch.Generator) -> Any:
        """Draw one micro-batch, on the CPU, from `generator` alone."""

    def export(self, folder: Path) -> None:
        """Write the trained model."""

    def grid(self) -> torch.Tensor | None:
        """A picture [H, W, 3] in [0, 1] of how it does now, or None."""


class Trainer:
    """Runs a `Task` as its `TrainConfig` says."""

    def __init__(self, config: TrainConfig, task: Task) -> None:
        from accelerate import Accelerator, DistributedDataParallelKwargs
        from diffusers.training_utils import EMAModel

        self.config = config
        self.task = task
        self.output = Path(config.output)
        self.accelerator = Accelerator(
            cpu=on_cpu(),
            gradient_accumulation_steps=config.accumulate,
            mixed_precision=config.precision,
            log_with="tensorboard",
            project_dir=str(self.output),
            # an image batch leaves the video queries without a gradient, and the other way round
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        groups = rate_groups(task.module, config.guidance_rate)
        self.multiples = [group.pop("multiple") for group in groups]
        optimizer = torch.optim.AdamW(
            groups,
            lr=config.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.model, self.optimizer = self.accelerator.prepare(task.module, optimizer)
        self.trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self.average: EMAModel | None = None
        if config.average:
            self.average = EMAModel(self.trained, decay=config.average, foreach=True)
            self.accelerator.register_for_checkpointing(self.average)
        self.step = 0

    def run(self, resume: bool = False) -> Path:
        """Train to the last step and export the model.

        Args:
            resume: go on from the newest saved state; where there is none, start anew.

        Returns:
            The folder of the exported model.

        Raises:
            InputError: `resume` is False and the output folder already holds states.
        """
        from tqdm import tqdm

        found = saved_states(self.output)
        if found and not resume:
            raise InputError(f"{str(self.output)!r} already holds a training run; resume it or choose another output.")
        if found:
            self._load(found[-1])
        self.accelerator.init_trackers("logs")
        main = self.accelerator.is_main_process
        with tqdm(total=self.config.steps, initial=self.step, desc=self.config.task, disable=not main) as bar:
            while self.step < self.config.steps:
                values = self._one_step()
                bar.update()
                if self.step % self.config.log_every == 0:
                    bar.set_postfix({name: f"{value:.4f}" for name, value in values.items()})
                    self.accelerator.log(values, step=self.step)
                self._at_intervals()
        folder = self.output / "model"
        if main:
            with self._averaged():
                self.task.export(folder)
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()
        return folder

    def _attention(self) -> AbstractContextManager[None]:
        """On a CPU, the backward pass of fused attention costs more than the products that it saves."""
        from torch.nn.attention import SDPBackend, sdpa_kernel

        return sdpa_kernel(SDPBackend.MATH) if self.accelerator.device.type == "cpu" else nullcontext()

    def _one_step(self) -> dict[str, float]:
        """One optimizer step over `accumulate` micro-batches; the mean of what they reported."""
        rate = learning_rate(self.config, self.step)
        for group, multiple in zip(self.optimizer.param_groups, self.multiples, strict=True):
            group["lr"] = rate * multiple
        reports: list[dict[str, float]] = []
        self.model.train()
        for micro in range(self.config.accumulate):
            generator = batch_generator(self.config.seed, self.step, micro, self.accelerator.process_index)
            batch = self.task.batch(generator)
            with self.accelerator.accumulate(self.model), self._attention():
                report = self.model(batch, generator)
                self.accelerator.backward(report["loss"])
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
            reports.append({name: value.item() for name, value in report.items()})
        if self.average is not None:
            self.average.step(self.trained)
        self.step += 1
        means = {name: sum(report[name] for report in reports) / len(reports) for name in reports[0]}
        return {**means, "rate": rate}

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The model with the average of its weights over the last steps, if one is kept: single steps leave noise."""
        if self.average is None:
            yield
            return
        self.average.store(self.trained)
        self.average.copy_to(self.trained)
        try:
            yield
        finally:
            self.average.restore(self.trained)

    def _at_intervals(self) -> None:
        if self.step % self.config.save_every == 0 or self.step == self.config.steps:
            self._save()
        if self.config.sample_every and self.step % self.config.sample_every == 0 and self.accelerator.is_main_process:
            self._write_grid()

    def _save(self) -> None:
        """Write the state of this step; every process takes part."""
        place = self.output / "states" / f"{self.step:08d}"
        partial = place.with_name(f".{place.name}.writing")
        if self.accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
            partial.parent.mkdir(parents=True, exist_ok=True)
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(partial))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            with atomic_folder(place) as folder:
                for file in partial.iterdir():
                    shutil.move(str(file), folder / file.name)
                (folder / "progress.json").write_text(json.dumps({"step": self.step}))
            shutil.rmtree(partial)
            for old in saved_states(self.output)[:-KEPT_STATES]:
                shutil.rmtree(old)

    def _load(self, folder: Path) -> None:
        self.accelerator.load_state(str(folder))
        self.step = json.loads((folder / "progress.json").read_text())["step"]
        logger.info("resuming at step %d", self.step)

    def _write_grid(self) -> None:
        from PIL import Image

        self.model.eval()
        with self._averaged():
            picture = self.task.grid()
        if picture is None:
            return
        folder = self.output / "samples"
        folder.mkdir(exist_ok=True)
        Image.fromarray((picture * 255).round().byte().numpy()).save(folder / f"{self.step:08d}.png")


def rate_groups(module: nn.Module, guidance_rate: float) -> list[dict[str, Any]]:
    """The trained parameters, the guidance's apart; `multiple` is what a group gets of the config's learning rate."""
    guidance: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            (guidance if name.startswith("guidance.") else others).append(parameter)
    groups = [{"params": guidance, "multiple": guidance_rate}, {"params": others, "multiple": 1.0}]
    return [group for group in groups if group["params"]]


def saved_states(output: Path) -> list[Path]:
    """The complete training states in a run's folder, oldest first."""
    folder = Path(output) / "states"
    complete = [
        path for path in folder.glob("*") if (path / "progress.json").is_file() and not path.name.startswith(".")
    ]
    return sorted(complete)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, flat, then a linear fall to a fiftieth of the rate."""
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    start = config.decay_from * config.steps
    fallen = max(0.0, (step - start) / max(1.0, config.steps - start))
    return config.learning_rate * warm * (1 - (1 - FINAL_RATE) * fallen)


def batch_generator(seed: int, step: int, micro: int, process: int) -> torch.Generator:
    """The one source of randomness of a micro-batch."""
    import numpy as np

    mixed = np.random.SeedSequence([seed, step, micro, process]).generate_state(2, np.uint32)
    return torch.Generator("cpu").manual_seed(int(mixed[0]) << 31 ^ int(mixed[1]))
