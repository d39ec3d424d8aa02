"""The training loop: one for every stage, on one CPU, one GPU or many processes, through `accelerate`.

- A batch, its noise and whatever torch's own generator draws are functions of (seed, step, micro-batch, process) alone,
  so a resumed run repeats exactly what an uninterrupted one would have seen.
- A saved state is whole or not used; see `states`. The two newest are kept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from ..checkpoints.files import atomic_folder
from ..errors import InputError
from .config import TrainConfig
from .processes import on_cpu
from .states import Snapshot, clear_unfinished, find_state, read_state, saved_states, write_state

logger = logging.getLogger(__name__)
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
        names = {parameter: name for name, parameter in task.module.named_parameters()}
        self.names = [names[parameter] for parameter in self.trained]
        self.average = EMAModel(self.trained, decay=config.average, foreach=True) if config.average else None
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

        if resume:
            self._resume()
        elif saved_states(self.output):
            raise InputError(f"{str(self.output)!r} already holds a training run; resume it or choose another output.")
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
            with self._averaged(), exporting(folder) as partial:
                self.task.export(partial)
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
            torch.manual_seed(generator.initial_seed())  # for what draws without being given a generator, as dropout
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
        tensors = {"weights": dict(zip(self.names, self.trained, strict=True)), "optimizer": self._optimizer_tensors()}
        if self.average is not None:
            tensors["average"] = dict(zip(self.names, self.average.shadow_params, strict=True))
        averaged = self.average.optimization_step if self.average is not None else 0
        write_state(self.output, Snapshot(self.step, averaged, tensors), self.accelerator)

    def _resume(self) -> None:
        """Go on from the newest whole state, the same one on every process."""
        from accelerate.utils import broadcast_object_list

        found: list[Any] = [None]
        if self.accelerator.is_main_process:
            clear_unfinished(self.output)
            try:
                found[0] = find_state(self.output, self.expected_tensors())
            except InputError as error:
                found[0] = error
        (state,) = broadcast_object_list(found)
        if isinstance(state, InputError):
            raise state
        if state is not None:
            self._load(read_state(state))
            logger.info("resuming at step %d", self.step)

    @torch.no_grad()
    def _load(self, snapshot: Snapshot) -> None:
        self.step = snapshot.step
        for name, parameter in zip(self.names, self.trained, strict=True):
            parameter.copy_(snapshot.tensors["weights"][name])
        if self.average is not None:
            self.average.optimization_step = snapshot.averaged_steps
            for name, average in zip(self.names, self.average.shadow_params, strict=True):
                average.copy_(snapshot.tensors["average"][name])
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, tensor in snapshot.tensors["optimizer"].items():
            kind, name = key.split("/", 1)
            state.setdefault(self.names.index(name), {})[kind] = tensor
        # what a group's rate, betas and so on are, the config says
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})

    def _optimizer_tensors(self) -> dict[str, torch.Tensor]:
        """What the optimizer knows of each parameter, as "exp_avg/NAME"."""
        names = dict(zip(self.trained, self.names, strict=True))
        return {
            f"{kind}/{names[parameter]}": value
            for parameter, values in self.optimizer.state.items()
            for kind, value in values.items()
        }

    def expected_tensors(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Names and shapes of all that a state of this run may hold."""
        shapes = {name: tuple(parameter.shape) for name, parameter in zip(self.names, self.trained, strict=True)}
        kinds: Mapping[str, Any] = {"step": lambda shape: (), "exp_avg": tuple, "exp_avg_sq": tuple}
        optimizer = {f"{kind}/{name}": of(shape) for name, shape in shapes.items() for kind, of in kinds.items()}
        return {"weights": shapes, "average": shapes if self.average is not None else {}, "optimizer": optimizer}

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


@contextmanager
def exporting(folder: Path) -> Iterator[Path]:
    """A folder to fill, which appears as `folder` when it is whole. Raises InputError where the disk refuses it."""
    from safetensors import SafetensorError

    try:
        with atomic_folder(folder) as partial:
            yield partial
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{str(folder)!r} could not be written ({error}); free space and write it again with --resume."
        ) from error


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
