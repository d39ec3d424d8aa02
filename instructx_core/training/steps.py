"""Each step's kind, micro-batches and randomness, which depend only on (seed, step, ...).

So a resumed run, on the same number of processes, sees exactly the batches of an uninterrupted one.
"""

from __future__ import annotations

import torch

from ..errors import InputError
from .config import DataConfig, TrainConfig

KIND = 1  # separates this stream from the first micro-batch's: numpy pads a shorter (seed, step) with zeros


def batch_generator(seed: int, step: int, micro: int, process: int) -> torch.Generator:
    """The only source of randomness of a micro-batch."""
    return _generator(seed, step, micro, process)


def is_video_step(seed: int, step: int, probability: float) -> bool:
    """True for a video step; the same for all processes and micro-batches (section 4.1)."""
    return bool(torch.rand((), generator=_generator(seed, step, 0, 0, KIND)) < probability)


def micro_batches(config: TrainConfig, is_video: bool, processes: int) -> int:
    """How many micro-batches each process has in a step.

    Raises:
        InputError: `step_images` or `step_videos` cannot be split evenly.
    """
    data = config.data
    wanted, batch = wanted_and_batch(data, is_video)
    if not wanted:
        return config.accumulate
    if wanted % (batch * processes):
        kind = "video" if is_video else "image"
        raise InputError(
            f"data.step_{kind}s is {wanted}, which cannot be split evenly with {processes} "
            f"process{'es' * (processes > 1)} and a data.{kind}_batch of {batch}; make it a multiple of "
            f"{batch * processes}."
        )
    return wanted // (batch * processes)


def wanted_and_batch(data: DataConfig, is_video: bool) -> tuple[int, int]:
    """Examples in a step over all processes (0: `accumulate` decides), and in a micro-batch."""
    return (data.step_videos, data.video_batch) if is_video else (data.step_images, data.image_batch)


def _generator(*numbers: int) -> torch.Generator:
    import numpy as np

    mixed = np.random.SeedSequence(numbers).generate_state(2, np.uint32)
    return torch.Generator("cpu").manual_seed(int(mixed[0]) << 31 ^ int(mixed[1]))
