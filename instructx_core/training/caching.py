"""`instructx cache`: encode a training config's examples ahead of its stages, with any number of processes."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch

from ..bounded import is_dir
from ..errors import InputError
from ..families.networks import load_codec
from ..paths import check_folder
from ..run_lock import only_run
from .config import TrainConfig
from .data.cache import Maker, make_pool, make_pool_with, writing
from .data.pool import read_pool
from .processes import process_state
from .tasks import STAGES


def cache(config: TrainConfig, folder: Path, processes: int = 1) -> Path:
    """Encode the examples of a config into `folder`, which can then be the `data.pool` of all stages with this data.

    Parts that a killed call finished are reused, and a complete folder is not changed. Under `accelerate launch` each
    process encodes its share.

    Args:
        processes: how many to start.

    Raises:
        InputError: a stage without latents, a folder that holds something else or that another run is making, unusable
            data, or a full disk.
        CheckpointError: a model in the stage's `start` is missing or damaged.
    """
    if STAGES[config.task].encoder is None:
        raise InputError(f"A {config.task} stage trains on pixels; there are no latents to cache.")
    state = process_state()
    if state.num_processes > 1 and processes > 1:
        raise InputError("accelerate has already started the processes; leave --processes out.")
    check_folder(folder, "The output")
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with only_run(folder) if state.is_main_process else nullcontext():
        maker = make_maker(config)
        if not is_dir(folder):
            if state.num_processes > 1:
                make_pool(folder, maker, (state.process_index, state.num_processes), state.wait_for_everyone)
            else:
                make_pool_with(folder, maker, processes, partial(make_maker, config))
    read_pool(folder, maker.origin())
    return folder


def make_maker(config: TrainConfig) -> Maker:
    """Make the encoder of a config's examples; of the start model, only the VAE is loaded.

    Raises:
        InputError, CheckpointError: as `cache`.
    """
    encoder = STAGES[config.task].encoder
    assert encoder is not None  # checked by `cache`
    found = encoder(config)
    codec = load_codec(found.vae, torch.float32).requires_grad_(False).to(process_state().device)
    return Maker(config.data, codec, found.shown_frames, codec.stride * found.patch)
