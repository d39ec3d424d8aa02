"""`instructx info`: describe a model or a weight file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .info_plan import PLAN_EXAMPLES, add_plan_options, plan_text
from .options import command
from .printing import say

EXAMPLES = f"""\
examples:
  instructx info                                              the bundled model
  instructx info runs/mine
  instructx info wan2.1_t2v_14B_fp8_scaled.safetensors        a DiT, VAE or MLLM in any form: what it is and is good for
{PLAN_EXAMPLES}"""


def add_info(commands: Any) -> None:
    parser = command(commands, "info", "describe a model or a weight file", EXAMPLES, _run_info)
    parser.add_argument(
        "path",
        metavar="PATH",
        type=Path,
        nargs="?",
        help="a model folder, weight file or weight folder (default: the bundled model)",
    )
    add_plan_options(parser)


def _run_info(arguments: argparse.Namespace) -> None:
    from ..model_info import describe

    say(plan_text(arguments) or describe(arguments.path))
