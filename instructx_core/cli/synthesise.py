"""`instructx synthesise`: make paired training data from footage, with a recipe of experts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..words import quoted_path
from .options import command, integer
from .printing import say
from .progress import Board

EXAMPLES = """\
examples:
  instructx synthesise pairs.yaml                             make pairs of every clip; run it again to continue
  instructx synthesise pairs.yaml --preview                   write OUTPUT/preview.html: 50 kept and 50 dropped
  instructx synthesise pairs.yaml --plan 100000 --cards 8     hours for that many clips, as measured in a small run
  instructx synthesise pairs.yaml --workers 8                 on 8 processes, plus one for each model (Ray)
  instructx synthesise pairs.yaml --ray-address auto          on a Ray cluster

A config to start with, which needs no weights:
  recipe: add_remove
  output: pairs
  world: {count: 20}

Train on it with `data: {table: pairs/kept}`. Recipes, experts and files: docs/synthesis.md.
"""


def add_synthesise(commands: Any) -> None:
    parser = command(commands, "synthesise", "make training pairs from footage", EXAMPLES, _run_synthesise)
    parser.add_argument("config", metavar="CONFIG", type=Path, help="the YAML file of a run")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--preview", action="store_true", help="only write a page of what has been made so far")
    only.add_argument("--plan", metavar="N", type=integer(1, 10**9), help="only print how long N clips would take")
    parser.add_argument("--cards", metavar="C", type=integer(1, 100_000), help="GPUs, for --plan (default: 1)")
    parser.add_argument(
        "--workers", metavar="N", type=integer(1, 100_000), help="Ray processes that run the recipe, one CPU each"
    )
    parser.add_argument("--ray-address", metavar="A", help="address of a Ray cluster that sees the same folders")


def _run_synthesise(arguments: argparse.Namespace) -> None:
    from ..synthesis.config import Cluster, read_synthesis_config

    if arguments.cards is not None and not arguments.plan:
        raise InputError("--cards is for --plan; give --plan N as well.")
    config = read_synthesis_config(arguments.config)
    output = Path(config.output)
    if arguments.preview:
        from ..synthesis.preview import write_preview

        say(write_preview(output, config.form, output / "preview.html"))
        return
    from ..synthesis.run import read_summary, synthesise

    if arguments.plan:
        from ..synthesis.models import models_of
        from ..synthesis.plan import plan_lines

        models = models_of(config.asked)
        lines = plan_lines(arguments.plan, arguments.cards or 1, config.rates, read_summary(output), models)
        if not lines:
            raise InputError(
                f"{quoted_path(arguments.config)}: no rates are known; run it on a few clips first, or give rates."
            )
        say("\n".join(lines))
        return
    on_ray = arguments.workers is not None or arguments.ray_address is not None
    with Board() as board:
        made = synthesise(
            config,
            progress=lambda dashboard: board(dashboard.lines()),
            cluster=Cluster(arguments.workers, arguments.ray_address) if on_ray else None,
        )
    say("\n".join([*made.lines(), str(output)]))
