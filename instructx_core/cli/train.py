"""`instructx train`: a stage as its config file says."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .options import command

EXAMPLES = """\
examples:
  instructx train stage1.yaml
  instructx train stage1.yaml --resume            after an interruption: continues at the last complete save
  accelerate launch -m instructx_core train stage1.yaml       the same run on several processes or GPUs

The configs of all stages lie in instructx_core/training/configs. A stopped run loses the steps since its last save.
"""


def add_train(commands: Any) -> None:
    parser = command(commands, "train", "train a model as a config file says", EXAMPLES, _run_train)
    parser.add_argument(
        "config", metavar="CONFIG.yaml", type=Path, help="the stage's settings, its data and where it saves"
    )
    parser.add_argument("--resume", action="store_true", help="continue at the last complete save of this config's run")


def _run_train(arguments: argparse.Namespace) -> None:
    from ..training.config import read_train_config

    config = read_train_config(arguments.config)
    from ..training.stages import train

    print(train(config, resume=arguments.resume))
