"""`instructx calibrate`: measure what `--cache mag` needs to know about a model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .options import command, integer
from .printing import say
from .progress import Progress

EXAMPLES = """\
examples:
  instructx calibrate models/mine                             then: instructx edit ... --model models/mine --cache mag
  instructx calibrate models/mine --steps 30                  if edits will take 30 steps

Four edits of two shipped files measure how much the DiT's output changes from step to step. The result is written into
the model's folder as mag_ratios.json and replaces an older one. Edits may use a different number of steps.
"""


def add_calibrate(commands: Any) -> None:
    parser = command(commands, "calibrate", "measure a model for --cache mag", EXAMPLES, _calibrate)
    parser.add_argument("model", metavar="MODEL", type=Path, help="the model folder, which the result is written into")
    parser.add_argument("--steps", type=integer(2, 1000), help="sampling steps, 2 to 1000 (default: the model's own)")
    parser.add_argument("--device", help="where to run: cpu, cuda, cuda:1, mps (default: a GPU if there is one)")


def _calibrate(arguments: argparse.Namespace) -> None:
    from transformers.utils.logging import disable_progress_bar

    from ..calibration import calibrate

    disable_progress_bar()
    with Progress("calibrating") as progress:
        written = calibrate(arguments.model, arguments.steps, arguments.device, progress)
    say(written)
