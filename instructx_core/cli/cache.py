"""`instructx cache`: encode a stage's examples ahead of training."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .options import add_changes, command, integer
from .printing import complain, say

EXAMPLES = """\
examples:
  instructx cache stage2.yaml latents --processes 4
  instructx cache stage2.yaml latents --set data.table=pairs.csv
  accelerate launch --num_processes 8 -m instructx_core cache stage2.yaml latents       on several machines or GPUs

Give OUT as data.pool to all stages with the same data and VAE. It appears once it is complete; after an interruption,
finished parts are kept, and the same command continues.
"""


def add_cache(commands: Any) -> None:
    parser = command(commands, "cache", "encode a training config's examples in advance", EXAMPLES, _run_cache)
    parser.add_argument(
        "config", metavar="CONFIG.yaml", type=Path, help="the config of a stage, with its data and start"
    )
    parser.add_argument("output", metavar="OUT", type=Path, help="the folder to write")
    parser.add_argument("--processes", type=integer(1, 1024), default=1, help="processes to start (default: 1)")
    add_changes(parser, "override a field of the config, e.g. data.table=pairs.csv")


def _run_cache(arguments: argparse.Namespace) -> None:
    from ..training.caching import cache
    from ..training.config import read_train_config

    config = read_train_config(arguments.config, arguments.changes)
    try:
        say(cache(config, arguments.output, arguments.processes))
    except KeyboardInterrupt:
        complain("")  # below the bar
        complain("instructx: finished parts are kept; run the same command to continue.")
        raise
