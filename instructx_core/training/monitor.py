"""Show a run's progress: a bar with examples per second and the time left, curves and samples in TensorBoard."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import torch

from ..errors import InputError
from ..words import one_line, quoted_path
from .config import TrainConfig

if TYPE_CHECKING:
    from accelerate import Accelerator


LOGS = "logs"  # folder of TensorBoard's files in a run's output


class Monitor:
    """Shows and logs a run, on the main process only.

    Attributes:
        last: the latest logged value of each metric; of a resumed run, also of its earlier parts.
    """

    def __init__(self, config: TrainConfig, accelerator: Accelerator, step: int) -> None:
        self.config = config
        self.accelerator = accelerator
        self.first = step
        with self._writing():
            self.last = _logged(Path(config.output) / LOGS) if step and accelerator.is_main_process else {}
        self._examples = 0
        self._since = time.perf_counter()

    def __enter__(self) -> Self:
        from tqdm import tqdm

        with self._writing():
            self.accelerator.init_trackers(LOGS)
        hidden = not self.accelerator.is_main_process
        self._bar = tqdm(total=self.config.steps, initial=self.first, desc=self.config.task, disable=hidden)
        self._since = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        with self._writing():
            if error is None:
                self.accelerator.end_training()
            else:  # `end_training` would also take down the process group, on which others may be waiting
                for tracker in self.accelerator.trackers:
                    tracker.finish()

    def advance(self, step: int, values: dict[str, float], examples: int) -> None:
        """Count a finished step; every `log_every` steps, show and log the values."""
        self._bar.update()
        self._examples += examples
        if step % self.config.log_every == 0:
            now = time.perf_counter()
            values = {**values, "examples_per_second": self._examples / max(now - self._since, 1e-9)}
            self._examples, self._since = 0, now
            self._bar.set_postfix({name: _short(value) for name, value in values.items()})
            self.log(step, values)

    def log(self, step: int, values: dict[str, float]) -> None:
        """Add the values to the curves."""
        with self._writing():
            self.accelerator.log(values, step=step)
        self.last |= values

    def show(self, step: int, grids: dict[str, torch.Tensor]) -> None:
        """Write pictures [H, W, 3] in [0, 1] into `samples/` and TensorBoard."""
        if not self.accelerator.is_main_process:
            return
        from PIL import Image

        folder = Path(self.config.output) / "samples"
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)
            for name, picture in grids.items():
                pixels = (picture * 255).round().byte().cpu().numpy()
                Image.fromarray(pixels).save(folder / f"{step:08d}-{name}.png")
                for tracker in self.accelerator.trackers:
                    tracker.log_images({f"samples/{name}": pixels[None]}, step=step, dataformats="NHWC")

    def _writing(self) -> _Writing:
        return _Writing(Path(self.config.output))


class _Writing:
    """Turns a file system error in the block into an InputError."""

    def __init__(self, output: Path) -> None:
        self.output = output

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise InputError(
                f"Logs and samples in {quoted_path(self.output)} could not be written ({one_line(error, 200)}); free "
                "up space and continue with --resume."
            ) from error


def _logged(folder: Path) -> dict[str, float]:
    """The latest value of each curve in TensorBoard's files, which a killed run may have left incomplete."""
    if not folder.is_dir():
        return {}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})  # 0: all of them, not a sample
    events.Reload()
    return {name: events.Scalars(name)[-1].value for name in events.Tags()["scalars"]}


def _short(value: float) -> str:
    return f"{value:.4g}"
