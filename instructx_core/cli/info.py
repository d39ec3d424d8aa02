"""`instructx info`: what a model is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .info_plan import PLAN_EXAMPLES, add_plan_options, plan_text
from .options import command

EXAMPLES = f"""\
examples:
  instructx info                                              the bundled model
  instructx info runs/mine
{PLAN_EXAMPLES}"""


def add_info(commands: Any) -> None:
    parser = command(commands, "info", "say what a model is", EXAMPLES, _run_info)
    parser.add_argument(
        "model", metavar="MODEL", type=Path, nargs="?", help="a model folder (default: the bundled model)"
    )
    add_plan_options(parser)


def _run_info(arguments: argparse.Namespace) -> None:
    from ..model_info import describe_model

    print(plan_text(arguments) or describe_model(arguments.model))
