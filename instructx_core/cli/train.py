"""`instructx train`: run a training stage from its config file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import TrainingStopped
from .options import INTERRUPTED, add_changes, command, integer
from .printing import complain, say

EXAMPLES = """\
examples:
  instructx train stage1.yaml
  instructx train stage1.yaml --resume            after an interruption: continues at the last complete save
  instructx train stage1.yaml --check --processes 8           what it would train, hold and read; trains nothing
  instructx train stage1.yaml --set steps=10 --set data.image_batch=4        other values than the file's
  accelerate launch -m instructx_core train stage1.yaml       the same run on several processes or GPUs

The configs of all stages lie in instructx_core/training/configs. Ctrl-C and SIGTERM save a state first;
a run that is killed loses the steps since its last save.
"""


def add_train(commands: Any) -> None:
    parser = command(commands, "train", "train a model as a config file says", EXAMPLES, _run_train)
    parser.add_argument(
        "config", metavar="CONFIG.yaml", type=Path, help="the stage's settings, its data and where it saves"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="train nothing: count parameters and memory, read ten examples and print the batch plan",
    )
    parser.add_argument(
        "--processes", type=integer(1, 65536), default=1, help="how many --check counts with (default: 1)"
    )
    parser.add_argument("--resume", action="store_true", help="continue at the last complete save of this config's run")
    add_changes(parser, "another value for a field of the config, as steps=10 or data.image_batch=4")


def _run_train(arguments: argparse.Namespace) -> None:
    from ..training.config import read_train_config

    config = read_train_config(arguments.config, arguments.changes)
    if arguments.check:
        from ..training.dry_run import describe_run

        say(describe_run(config, arguments.processes))
        return
    from ..training.stages import train

    try:
        say(train(config, resume=arguments.resume))
    except TrainingStopped as stopped:
        complain(f"instructx: {stopped}")
        raise SystemExit(INTERRUPTED) from stopped
