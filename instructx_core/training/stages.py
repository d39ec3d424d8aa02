"""Run one training stage, from its config to a model folder."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

from ..atomic import remove_empty
from ..bounded import is_dir
from ..errors import InputError
from ..paths import check_folder
from ..run_lock import only_run
from ..words import quoted_path
from .config import TrainConfig, pool_folder
from .data.opening import open_table
from .processes import process_state
from .sharding import check_launch
from .states import saved_states
from .tasks import make_task
from .trainer import Trainer, model_folder


def train(config: TrainConfig, resume: bool = False) -> Path:
    """Run one stage to its end; return the folder of the trained model.

    Args:
        resume: continue from the newest usable state; if there are no states, start from the beginning.

    Raises:
        InputError: a config, data or output folder that cannot be used, an output that another run is writing to, or
            FSDP with one process.
        CheckpointError: a model in the stage's `start` is missing or damaged.
        TrainingError, TrainingStopped: see `Trainer.run`.
    """
    check_launch()
    output = Path(config.output)
    check_folder(output, "The output")
    pool = pool_folder(config)
    if pool is not None:
        check_folder(pool, "data.pool")
    if not resume and saved_states(output):
        raise InputError(f"{quoted_path(output)} already holds a training run; resume it or choose another output.")
    model = model_folder(config)
    if os.path.lexists(model) and not saved_states(output):
        raise InputError(f"The run would replace {quoted_path(model)}, which it did not write; choose another output.")
    for data in config.tables():
        if data.table is not None and (pool is None or not is_dir(pool)):
            open_table(data)  # a bad table fails before a model is loaded
    made = [parent for parent in output.absolute().parents if not parent.exists()]  # created for the lock
    try:
        with only_run(output) if process_state().is_main_process else nullcontext():
            return Trainer(config, make_task(config)).run(resume)
    except BaseException:
        remove_empty(made)
        raise
