"""`instructx world`: write pairs of the procedural world to files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .options import command, integer
from .printing import say
from .progress import Progress

WORLD_GROUPS = "recolor, remove, add, replace, background, grayscale, invert, hybrid, reference_swap, reference_add"
LATER_GROUPS = "tone, style, weather, segment, late (clips only), outside"
EXAMPLES = f"""\
examples:
  instructx world -o pairs                                    8 pictures before and after, cycling through the groups
  instructx world -o clips --frames 17 --group recolor --group remove --count 50
  instructx world -o rich --rich --group tone --group style   natural backgrounds, lively objects, English and Chinese

groups: {WORLD_GROUPS};
only if named: {LATER_GROUPS}
The folder gets a metadata.csv with the columns source, target, instruction, reference, which `instructx train` reads.
"""


def add_world(commands: Any) -> None:
    parser = command(commands, "world", "write sample pairs of the procedural world", EXAMPLES, _run_world)
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="a new or empty folder")
    parser.add_argument(
        "--count", metavar="N", type=integer(1, 1_000_000), default=8, help="pairs in total (default: 8)"
    )
    parser.add_argument(
        "--group", action="append", help="a kind of edit, repeatable; see below (default: all, in turn)"
    )
    parser.add_argument("--rich", action="store_true", help="natural backgrounds, lively objects, English and Chinese")
    parser.add_argument(
        "--frames", type=integer(1, 1000), default=1, help="1 for pictures, more for clips (default: 1)"
    )
    parser.add_argument(
        "--size", type=integer(32, 1024), default=64, help="height and width, 32 to 1024 pixels (default: 64)"
    )
    parser.add_argument("--seed", type=integer(0, 2**40 - 1), default=0, help="seed of the first pair (default: 0)")


def _run_world(arguments: argparse.Namespace) -> None:
    from ..world import GROUPS, PLAIN, RICH
    from ..world_folder import write_pairs

    with Progress("pairs") as progress:
        metadata = write_pairs(
            arguments.output,
            count=arguments.count,
            groups=arguments.group or GROUPS,
            frames=arguments.frames,
            size=arguments.size,
            seed=arguments.seed,
            variety=RICH if arguments.rich else PLAIN,
            progress=progress,
        )
    say(metadata)
