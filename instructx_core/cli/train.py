"""`instructx train`: run a training stage from its config file."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from typing import Any

from ..errors import InputError, TrainingStopped
from .options import INTERRUPTED, TERMINATED, add_changes, command, integer
from .printing import complain, say

EXAMPLES = """\
examples:
  instructx train stage1.yaml
  instructx train stage1.yaml --resume            after an interruption: continue from the last state
  instructx train stage1.yaml --check --processes 8           what it would train, keep in memory and read
  instructx train stage1.yaml --set steps=10 --set data.image_batch=4        override values of the file
  accelerate launch -m instructx_core train stage1.yaml       the same run on several processes or GPUs

The configs of all stages are in instructx_core/training/configs. Ctrl-C and SIGTERM save a state first;
a run that is killed loses the steps since the last one.
"""


def add_train(commands: Any) -> None:
    parser = command(commands, "train", "train a model from a config file", EXAMPLES, _run_train)
    parser.add_argument("config", metavar="CONFIG.yaml", type=Path, help="the stage's settings, data and output folder")
    parser.add_argument(
        "--check",
        action="store_true",
        help="do not train; count parameters and memory, read ten examples and print the batch plan",
    )
    parser.add_argument("--processes", type=integer(1, 65536), help="number of processes, for --check (default: 1)")
    parser.add_argument("--resume", action="store_true", help="continue from the last complete state of this run")
    add_changes(parser, "override a field of the config, e.g. steps=10 or data.image_batch=4")


def _run_train(arguments: argparse.Namespace) -> None:
    if arguments.processes is not None and not arguments.check:
        raise InputError("--processes is for --check; to train on several, use `accelerate launch` (see --help).")
    from ..training.config import read_train_config

    config = read_train_config(arguments.config, arguments.changes)
    if arguments.check:
        from ..training.dry_run import describe_run

        say(describe_run(config, arguments.processes or 1))
        return
    from ..training.stages import train

    try:
        say(train(config, resume=arguments.resume))
    except TrainingStopped as stopped:
        complain(f"instructx: {stopped}")
        raise SystemExit(TERMINATED if stopped.signal == signal.SIGTERM else INTERRUPTED) from stopped
