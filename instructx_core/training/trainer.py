"""The training loop of every stage, on one CPU, one GPU or many processes, through `accelerate`.

- A step's examples and noise depend only on (seed, step, micro-batch, process), see `steps`, and on the position in a
  streamed table, which states store: a resumed run sees exactly what an uninterrupted one would have.
- Weights, gradients and optimizer state may be sharded over the processes; see `sharding`. Saved files are the same.
- Incomplete states are never used; see `states`. The two newest are kept. Ctrl-C and SIGTERM save one before the end.
- A NaN or infinite loss ends the run before it can spoil the weights.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from ..atomic import atomic_folder
from ..errors import InputError, InstructXError, TrainingError, TrainingStopped
from ..words import listed, one_line, quoted_path
from .card import write_card
from .config import TrainConfig
from .monitor import Monitor
from .optimizers import make_optimizers, parameter_groups, rate_share, set_rates, state_shapes
from .precision import autocast, stepping, warn_of_float32
from .processes import on_cpu
from .sharding import (
    gathered,
    is_sharded_run,
    local,
    make_whole,
    shard_module,
    share_of,
    shared_like,
    warn_on_cpu,
    whole,
)
from .signals import SIGNALS, Stop, stop_on_signals
from .states import Snapshot, clear_unfinished, find_state, read_state, write_state
from .steps import batch_generator, is_video_step, micro_batches

logger = logging.getLogger(__name__)


class Task(Protocol):
    """A stage's part of the loop. Batches have a length, and optionally `names`: where their examples come from."""

    module: nn.Module  # forward(batch, generator) returns {"loss": scalar, ...}; frozen parameters need no gradient

    def batch(self, generator: torch.Generator, is_video: bool) -> Any:
        """Draw a micro-batch of images or videos, on the CPU; it depends only on `generator` and the position."""

    def position(self) -> dict[str, Any]:
        """The position in the data, as plain values; empty if there is none."""

    def go_to(self, position: dict[str, Any]) -> None:
        """Continue from a position that was saved with the same config."""

    def validation(self) -> Iterator[tuple[str, Any]]:
        """Batches of examples that are never trained on, each with the name of its kind."""

    def export(self, folder: Path) -> None:
        """Write the trained model."""

    def grids(self) -> dict[str, torch.Tensor]:
        """Sample pictures [H, W, 3] in [0, 1] of the current model, by name."""


class Trainer:
    """Runs a `Task` according to its `TrainConfig`."""

    def __init__(self, config: TrainConfig, task: Task) -> None:
        from accelerate import Accelerator, DistributedDataParallelKwargs
        from diffusers.training_utils import EMAModel

        self.config = config
        self.task = task
        self.output = Path(config.output)
        self.accelerator = Accelerator(
            cpu=on_cpu(),
            mixed_precision="no",  # see `autocast`
            log_with="tensorboard",
            project_dir=str(self.output),
            # an image batch leaves the video queries without a gradient, and vice versa
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        warn_of_float32(config.precision, self.accelerator.device)
        for is_video in (False, True):
            micro_batches(config, is_video, self.accelerator.num_processes)  # raises if a step cannot be split evenly
        self.is_sharded = is_sharded_run()
        self.model: Any = task.module
        self.optimizers: list[Any]
        if self.is_sharded:
            warn_on_cpu()
            shard_module(task.module, self.accelerator.device)
            groups = parameter_groups(task.module, config)
            self.optimizers = make_optimizers(groups, config)
        else:
            groups = parameter_groups(task.module, config)
            self.model, *self.optimizers = self.accelerator.prepare(task.module, *make_optimizers(groups, config))
        self.groups = groups
        self.trained = [parameter for group in groups for parameter in group.parameters]
        names = {parameter: name for name, parameter in task.module.named_parameters()}
        self.names = [names[parameter] for parameter in self.trained]
        self.average = EMAModel(self._shares, decay=config.average, foreach=True) if config.average else None
        self.step = 0

    def run(self, resume: bool = False) -> Path:
        """Train to the last step and export the model.

        Args:
            resume: continue from the newest usable state; if there are no states, start from the beginning.

        Returns:
            The folder of the exported model.

        Raises:
            InputError: a state, a sample or the model cannot be written, none of the saved states is usable, or the
                newest is beyond the last step.
            TrainingError: a loss is NaN or infinite, or a step fails on its examples.
            TrainingStopped: a signal ended the run; a state has been saved.
        """
        if resume:
            self._resume()
        with Monitor(self.config, self.accelerator, self.step) as monitor, stop_on_signals() as stop:
            while self.step < self.config.steps:
                values, examples = self._one_step()
                monitor.advance(self.step, values, examples)
                ending = self._ending_signal(stop)
                if ending or self.step % self.config.save_every == 0 or self.step == self.config.steps:
                    self._save()
                if ending and self.step < self.config.steps:
                    message = f"stopped after step {self.step}, which is saved; continue with --resume."
                    raise TrainingStopped(message, ending)
                self._look(monitor)
            folder = model_folder(self.config)
            with self._averaged():
                if self.is_sharded:
                    make_whole(self.task.module, self.accelerator.is_main_process)
                if self.accelerator.is_main_process:
                    with exporting(folder) as partial:
                        self.task.export(partial)
                        write_card(partial, self.config, self.accelerator.num_processes, monitor.last)
            self.accelerator.wait_for_everyone()
            self._let_go()
        return folder

    def _let_go(self) -> None:
        """Drop the wrapper that averages gradients (DDP) while the process group still exists.

        Otherwise it is the group's last owner and joins the group's threads while holding the GIL, which one of them
        may be waiting for: the process hangs (seen once in about thirty runs of two processes).
        """
        self.model = self.task.module
        self.accelerator.free_memory()

    @property
    def _shares(self) -> list[torch.Tensor]:
        """This process's shards of the trained parameters."""
        return [local(parameter).requires_grad_() for parameter in self.trained]  # else EMAModel only copies them

    def _attention(self) -> AbstractContextManager[None]:
        """Plain attention on a CPU, where fused attention's backward pass costs more than the products it saves."""
        from torch.nn.attention import SDPBackend, sdpa_kernel

        return sdpa_kernel(SDPBackend.MATH) if self.accelerator.device.type == "cpu" else nullcontext()

    def _precision(self) -> AbstractContextManager[Any]:
        return autocast(self.config.precision, self.accelerator.device)

    def _one_step(self) -> tuple[dict[str, float], int]:
        """Make one optimizer step; return the mean report of its micro-batches and its examples over all processes."""
        share = rate_share(self.config, self.step)
        set_rates(self.optimizers, share)
        is_video = is_video_step(self.config.seed, self.step, self.config.data.video_probability)
        count = micro_batches(self.config, is_video, self.accelerator.num_processes)
        reports: list[dict[str, float]] = []
        names: list[str] = []
        examples, waited, begun = 0, 0.0, time.perf_counter()
        self.model.train()
        for micro in range(count):
            generator = batch_generator(self.config.seed, self.step, micro, self.accelerator.process_index)
            torch.manual_seed(generator.initial_seed())  # for code that takes no generator, such as dropout
            asked = time.perf_counter()
            batch = self.task.batch(generator, is_video)
            waited += time.perf_counter() - asked
            # gradients are averaged over processes once per step
            with self._summing(micro == count - 1):
                reports.append(self._one_micro_batch(batch, generator, count))
            examples += len(batch)
            names += _names(batch)
        # if the weights are sharded, this is the norm over all shards
        norm = whole(nn.utils.clip_grad_norm_(self.trained, self.config.max_grad_norm)).item()
        if not math.isfinite(norm):
            raise TrainingError(
                f"The gradient is {norm} at step {self.step + 1} (examples: {_told(names)}); {self._advice()}"
            )
        with stepping(self.accelerator.device):
            for optimizer in self.optimizers:
                optimizer.step()
                optimizer.zero_grad()
        if self.average is not None:
            self.average.step(self._shares)
        self.step += 1
        means = {name: sum(report[name] for report in reports) / count for name in reports[0]}
        rate = self.config.learning_rate * share
        waiting = waited / (time.perf_counter() - begun)  # reading the norm has waited for the device
        values = {**means, "gradient": norm, "rate": rate, "waiting": waiting}
        return values, examples * self.accelerator.num_processes

    def _summing(self, is_last: bool) -> AbstractContextManager[Any]:
        """Keep gradients within their process until the last micro-batch of a step."""
        if self.is_sharded:
            self.model.set_requires_gradient_sync(is_last)
            return nullcontext()
        return nullcontext() if is_last else self.accelerator.no_sync(self.model)

    def _one_micro_batch(self, batch: Any, generator: torch.Generator, count: int) -> dict[str, float]:
        """Add the gradients of one of `count` micro-batches; return its report."""
        with self._naming(batch), self._attention():
            with self._precision():
                report = self.model(batch, generator)
            self.accelerator.backward(report["loss"] / count)
        values = {name: value.item() for name, value in report.items()}
        if not math.isfinite(values["loss"]):
            raise TrainingError(
                f"The loss is {values['loss']} at step {self.step + 1} (examples: {_told(_names(batch))}); "
                f"{self._advice()}"
            )
        return values

    @contextmanager
    def _naming(self, batch: Any) -> Iterator[None]:
        """Name the step and its examples in an unexpected error from the block."""
        try:
            yield
        except InstructXError:
            raise
        except Exception as error:
            raise TrainingError(
                f"Step {self.step + 1} failed on its examples ({_told(_names(batch))}): {type(error).__name__}: "
                f"{one_line(error, 300)}"
            ) from error

    def _advice(self) -> str:
        return "check the examples or lower the learning rate, then continue from the last state with --resume."

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Within the block, the model has its averaged weights, if they are kept: single steps leave noise."""
        if self.average is None:
            yield
            return
        shares = self._shares
        self.average.store(shares)
        self.average.copy_to(shares)
        try:
            yield
        finally:
            self.average.restore(shares)

    def _ending_signal(self, stop: Stop) -> int | None:
        """The signal that any process received, the same on all of them: they save together."""
        if self.accelerator.num_processes == 1:
            return stop.signal
        flags = torch.tensor([float(stop.signal == number) for number in SIGNALS], device=self.accelerator.device)
        received = self.accelerator.reduce(flags, "sum").tolist()
        return next((number for number, count in zip(SIGNALS, received, strict=True) if count), None)

    def _look(self, monitor: Monitor) -> None:
        """Make samples and validation losses when they are due; all processes compute, the main one writes."""
        every, validate = self.config.sample_every, self.config.validate_every
        if every and self.step % every == 0:
            self.model.eval()
            with self._averaged(), gathered(self.model):
                monitor.show(self.step, self.task.grids())
        if validate and self.step % validate == 0:
            monitor.log(self.step, self._validate())

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """The model's mean report on held-out examples, with the same noise every time."""
        sums: Counter[str] = Counter()
        counts: Counter[str] = Counter()
        self.model.eval()
        with self._averaged():
            for number, (kind, batch) in enumerate(self.task.validation()):
                generator = batch_generator(self.config.seed, 0, number, VALIDATION)
                with self._precision():
                    report = self.model(batch, generator)
                for name, value in report.items():
                    # weighted by size, as the last batch of a shape is smaller
                    sums[f"validation/{kind}/{name}"] += len(batch) * value.item()
                    counts[f"validation/{kind}/{name}"] += len(batch)
        return {name: total / counts[name] for name, total in sums.items()}

    def _save(self) -> None:
        """Write the state of this step; every process takes part."""
        tensors = {"weights": dict(zip(self.names, self.trained, strict=True)), "optimizer": self._optimizer_tensors()}
        if self.average is not None:
            shares = zip(self.average.shadow_params, self.trained, strict=True)
            tensors["average"] = dict(zip(self.names, (share_of(own, of) for own, of in shares), strict=True))
        averaged = self.average.optimization_step if self.average is not None else 0
        snapshot = Snapshot(self.step, averaged, tensors, self.task.position())
        write_state(self.output, snapshot, self.accelerator)

    def _resume(self) -> None:
        """Continue from the newest usable state, the same one on every process."""
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
            if int(state.name) > self.config.steps:
                raise InputError(
                    f"The training state {quoted_path(state)} is beyond this config's steps, {self.config.steps}; "
                    "raise steps, or start over in another output folder."
                )
            self._load(read_state(state, self.accelerator.process_index))
            logger.info("resuming at step %d", self.step)

    @torch.no_grad()
    def _load(self, snapshot: Snapshot) -> None:
        self.step = snapshot.step
        if snapshot.position:
            self.task.go_to(dict(snapshot.position))
        parameters = dict(zip(self.names, self.trained, strict=True))
        for name, parameter in zip(self.names, self.trained, strict=True):
            local(parameter).copy_(local(shared_like(snapshot.tensors["weights"][name], parameter)))
        if self.average is not None:
            self.average.optimization_step = snapshot.averaged_steps
            for name, average in zip(self.names, self.average.shadow_params, strict=True):
                average.copy_(local(shared_like(snapshot.tensors["average"][name], parameters[name])))
        names = dict(zip(self.trained, self.names, strict=True))
        kept: dict[str, dict[str, torch.Tensor]] = {}
        for key, tensor in snapshot.tensors["optimizer"].items():
            kind, name = key.split("/", 1)
            # a copy: optimizers keep these tensors, and some systems cannot delete a file that is mapped
            kept.setdefault(name, {})[kind] = shared_like(tensor, parameters[name]).clone()
        for optimizer in self.optimizers:
            plain = optimizer.state_dict()  # rates, betas and so on stay the config's
            order = [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
            plain["state"] = {place: kept[name] for place, name in enumerate(order) if name in kept}
            optimizer.load_state_dict(plain)

    def _optimizer_tensors(self) -> dict[str, torch.Tensor]:
        """The optimizers' state for each parameter, as "exp_avg/NAME"."""
        names = dict(zip(self.trained, self.names, strict=True))
        return {
            f"{kind}/{names[parameter]}": value
            for optimizer in self.optimizers
            for parameter, values in optimizer.state.items()
            for kind, value in values.items()
        }

    def expected_tensors(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Names and shapes of all tensors that a state of this run may hold."""
        shapes = {name: tuple(parameter.shape) for name, parameter in zip(self.names, self.trained, strict=True)}
        muon = {parameter for group in self.groups if group.muon for parameter in group.parameters}
        optimizer = {
            f"{kind}/{name}": of
            for name, parameter in zip(self.names, self.trained, strict=True)
            for kind, of in state_shapes(shapes[name], parameter in muon, self.config).items()
        }
        return {"weights": shapes, "average": shapes if self.average is not None else {}, "optimizer": optimizer}


VALIDATION = 1 << 30  # used as process number, so that no training batch has the same randomness


def _names(batch: Any) -> Sequence[str]:
    """Where a batch's examples come from, if it says so."""
    return getattr(batch, "names", ())


def _told(names: Sequence[str]) -> str:
    return listed(names) or "generated during training"


def model_folder(config: TrainConfig) -> Path:
    """Where a run writes its model."""
    return Path(config.output) / "model"


@contextmanager
def exporting(folder: Path) -> Iterator[Path]:
    """Give a folder to fill, which appears as `folder` once complete. Raises InputError if it cannot be written."""
    from safetensors import SafetensorError

    try:
        with atomic_folder(folder) as partial:
            yield partial
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{quoted_path(folder)} could not be written ({one_line(error, 200)}); free up space and write it again "
            "with --resume."
        ) from error
