"""The training loop: one for every stage, on one CPU, one GPU or many processes, through `accelerate`.

- What a step draws is a function of (seed, step, micro-batch, process) alone (see `steps`), and of the position in a
  table that is read as it goes, which states keep: a resumed run sees exactly what an uninterrupted one would have.
- Weights, gradients and optimizer may be spread over the processes; see `sharding`. What is saved is the same.
- A saved state is whole or not used; see `states`. The two newest are kept. Ctrl-C and SIGTERM save one first.
- A loss that is NaN or infinite ends the run before it can spoil the weights.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Iterator
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
from .signals import Stop, stop_on_signals
from .states import Snapshot, clear_unfinished, find_state, read_state, write_state
from .steps import batch_generator, is_video_step, micro_batches

logger = logging.getLogger(__name__)


class Task(Protocol):
    """What a stage brings to the loop. A batch has a length, and may have `names` that say where it is from."""

    module: nn.Module  # its forward(batch, generator) gives {"loss": scalar, ...}; frozen parameters need no gradient

    def batch(self, generator: torch.Generator, is_video: bool) -> Any:
        """Draw one micro-batch of images or of videos, on the CPU, from `generator` and the position alone."""

    def position(self) -> dict[str, Any]:
        """Where it stands in data that is read in order, as plain numbers; empty where a generator says it all."""

    def go_to(self, position: dict[str, Any]) -> None:
        """Go on from a position of a run of the same config."""

    def validation(self) -> Iterator[tuple[str, Any]]:
        """Batches, which have a length, of examples that are never trained on, each with the name of its kind."""

    def export(self, folder: Path) -> None:
        """Write the trained model."""

    def grids(self) -> dict[str, torch.Tensor]:
        """Pictures [H, W, 3] in [0, 1] of how it does now, by name."""


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
            mixed_precision="no",  # see `_precision`
            log_with="tensorboard",
            project_dir=str(self.output),
            # an image batch leaves the video queries without a gradient, and the other way round
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        for is_video in (False, True):
            micro_batches(config, is_video, self.accelerator.num_processes)  # whether they can be shared
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
        self.trained = [parameter for group in groups for parameter in group.parameters]
        names = {parameter: name for name, parameter in task.module.named_parameters()}
        self.names = [names[parameter] for parameter in self.trained]
        self.average = EMAModel(self._shares, decay=config.average, foreach=True) if config.average else None
        self.step = 0

    def run(self, resume: bool = False) -> Path:
        """Train to the last step and export the model.

        Args:
            resume: continue from the newest saved state; if there is none, start from the beginning.

        Returns:
            The folder of the exported model.

        Raises:
            InputError: a state, a sample or the model cannot be written, or no state is whole.
            TrainingError: a loss that is NaN or infinite, or an example that a step fails on.
            TrainingStopped: a signal came; a state has been saved.
        """
        if resume:
            self._resume()
        with Monitor(self.config, self.accelerator, self.step) as monitor, stop_on_signals() as stop:
            while self.step < self.config.steps:
                values, examples = self._one_step()
                monitor.advance(self.step, values, examples)
                ending = self._is_ending(stop)
                if ending or self.step % self.config.save_every == 0 or self.step == self.config.steps:
                    self._save()
                if ending and self.step < self.config.steps:
                    raise TrainingStopped(f"stopped after step {self.step}, which is saved; go on with --resume.")
                self._look(monitor)
            folder = self.output / "model"
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
        """Drop what averages gradients while the group of processes is still there.

        Else it is the last to hold that group, and joins the group's threads while it holds Python's lock, which one of
        them may be waiting for: a process that never ends (seen once in some thirty runs of two).
        """
        self.model = self.task.module
        self.accelerator.free_memory()

    @property
    def _shares(self) -> list[torch.Tensor]:
        """What this process holds of the trained parameters."""
        return [local(parameter).requires_grad_() for parameter in self.trained]  # else the average skips it

    def _attention(self) -> AbstractContextManager[None]:
        """On a CPU, the backward pass of fused attention costs more than the products that it saves."""
        from torch.nn.attention import SDPBackend, sdpa_kernel

        return sdpa_kernel(SDPBackend.MATH) if self.accelerator.device.type == "cpu" else nullcontext()

    def _precision(self) -> AbstractContextManager[Any]:
        """Autocast by hand: accelerate's is fixed for a whole process, so a second run in it could have no other."""
        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")

    def _one_step(self) -> tuple[dict[str, float], int]:
        """One step of the optimizers; the mean of what its micro-batches reported, and examples of all processes."""
        share = rate_share(self.config, self.step)
        set_rates(self.optimizers, share)
        is_video = is_video_step(self.config.seed, self.step, self.config.data.video_probability)
        count = micro_batches(self.config, is_video, self.accelerator.num_processes)
        reports: list[dict[str, float]] = []
        examples, waited, begun = 0, 0.0, time.perf_counter()
        self.model.train()
        for micro in range(count):
            generator = batch_generator(self.config.seed, self.step, micro, self.accelerator.process_index)
            torch.manual_seed(generator.initial_seed())  # for what draws without being given a generator, as dropout
            asked = time.perf_counter()
            batch = self.task.batch(generator, is_video)
            waited += time.perf_counter() - asked
            # gradients of processes are averaged once a step
            with self._summing(micro == count - 1):
                reports.append(self._one_micro_batch(batch, generator, count))
            examples += len(batch)
        # several processes that share weights out have one norm of all their shares
        norm = whole(nn.utils.clip_grad_norm_(self.trained, self.config.max_grad_norm)).item()
        if not math.isfinite(norm):
            raise TrainingError(f"The gradient is {norm} at step {self.step + 1}; {self._advice()}")
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if self.average is not None:
            self.average.step(self._shares)
        self.step += 1
        means = {name: sum(report[name] for report in reports) / count for name in reports[0]}
        rate = self.config.learning_rate * share
        waiting = waited / (time.perf_counter() - begun)  # the norm, a number, has waited for the device
        values = {**means, "gradient": norm, "rate": rate, "waiting": waiting}
        return values, examples * self.accelerator.num_processes

    def _summing(self, is_last: bool) -> AbstractContextManager[Any]:
        """Leave gradients to their process until the last micro-batch of a step."""
        if self.is_sharded:
            self.model.set_requires_gradient_sync(is_last)
            return nullcontext()
        return nullcontext() if is_last else self.accelerator.no_sync(self.model)

    def _one_micro_batch(self, batch: Any, generator: torch.Generator, count: int) -> dict[str, float]:
        """Add the gradients of one of `count` micro-batches; what it reports."""
        with self._naming(batch), self._attention():
            with self._precision():
                report = self.model(batch, generator)
            self.accelerator.backward(report["loss"] / count)
        values = {name: value.item() for name, value in report.items()}
        if not math.isfinite(values["loss"]):
            names = listed(getattr(batch, "names", ())) or "drawn anew"
            raise TrainingError(
                f"The loss is {values['loss']} at step {self.step + 1} (examples: {names}); {self._advice()}"
            )
        return values

    @contextmanager
    def _naming(self, batch: Any) -> Iterator[None]:
        """Say of an error in the block which step and examples it came from."""
        try:
            yield
        except InstructXError:
            raise
        except Exception as error:
            names = listed(getattr(batch, "names", ())) or "drawn anew"
            raise TrainingError(
                f"Step {self.step + 1} failed on its examples ({names}): {type(error).__name__}: {one_line(error, 300)}"
            ) from error

    def _advice(self) -> str:
        return "look at these examples, or lower the learning rate, and go on from the last state with --resume."

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The model with the average of its weights over the last steps, if one is kept: single steps leave noise."""
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

    def _is_ending(self, stop: Stop) -> bool:
        """Whether a signal came to any process: all of them save together."""
        if self.accelerator.num_processes == 1:
            return stop.signal is not None
        flag = torch.tensor(float(stop.signal is not None), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum") > 0)

    def _look(self, monitor: Monitor) -> None:
        """Samples and validation losses where their time has come; all processes compute, the main one writes."""
        every, validate = self.config.sample_every, self.config.validate_every
        if every and self.step % every == 0:
            self.model.eval()
            with self._averaged(), gathered(self.model):
                monitor.show(self.step, self.task.grids())
        if validate and self.step % validate == 0:
            monitor.log(self.step, self._validate())

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """The mean of what the model reports on examples it is not trained on, with the same noise every time."""
        sums: Counter[str] = Counter()
        counts: Counter[str] = Counter()
        self.model.eval()
        with self._averaged():
            for number, (kind, batch) in enumerate(self.task.validation()):
                generator = batch_generator(self.config.seed, 0, number, VALIDATION)
                with self._precision():
                    report = self.model(batch, generator)
                for name, value in report.items():
                    # each example counts alike: the last batch of a shape is smaller
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
            # a copy: optimizers keep what they are given, and a file that is mapped cannot be deleted everywhere
            kept.setdefault(name, {})[kind] = shared_like(tensor, parameters[name]).clone()
        for optimizer in self.optimizers:
            plain = optimizer.state_dict()  # what a group's rate, betas and so on are, the config says
            order = [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
            plain["state"] = {place: kept[name] for place, name in enumerate(order) if name in kept}
            optimizer.load_state_dict(plain)

    def _optimizer_tensors(self) -> dict[str, torch.Tensor]:
        """What the optimizers know of each parameter, as "exp_avg/NAME"."""
        names = dict(zip(self.trained, self.names, strict=True))
        return {
            f"{kind}/{names[parameter]}": value
            for optimizer in self.optimizers
            for parameter, values in optimizer.state.items()
            for kind, value in values.items()
        }

    def expected_tensors(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Names and shapes of all that a state of this run may hold."""
        shapes = {name: tuple(parameter.shape) for name, parameter in zip(self.names, self.trained, strict=True)}
        optimizer = {f"{kind}/{name}": of for name, shape in shapes.items() for kind, of in state_shapes(shape).items()}
        return {"weights": shapes, "average": shapes if self.average is not None else {}, "optimizer": optimizer}


VALIDATION = 1 << 30  # in the place of a process: randomness that no training batch has


@contextmanager
def exporting(folder: Path) -> Iterator[Path]:
    """A folder to fill, which appears as `folder` when it is whole. Raises InputError where the disk refuses it."""
    from safetensors import SafetensorError

    try:
        with atomic_folder(folder) as partial:
            yield partial
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{quoted_path(folder)} could not be written ({one_line(error, 200)}); free space and write it again with "
            "--resume."
        ) from error
