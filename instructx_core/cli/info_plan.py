"""`instructx info --plan`: the GPU memory that edits of a given size need, without loading anything."""

from __future__ import annotations

import argparse

from ..errors import InputError
from .options import add_base, given_base, integer, number

PLAN_EXAMPLES = """\
  instructx info --plan --width 832 --height 480 --frames 81 --vram 24 kiwi-edit-5b
                                                              how an edit would use a GPU with 24 GiB free
  instructx info --plan mine/instructx.safetensors --transformer wan.gguf --vae vae.safetensors --mllm Qwen2.5-VL-3B
                                                              the same for weights from several places
"""


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("memory")
    group.add_argument(
        "--plan", action="store_true", help="print what an edit needs in memory, phase by phase, instead"
    )
    for side in ("width", "height"):
        group.add_argument(f"--{side}", type=integer(1, 8192), help=f"{side} in pixels (default: as trained)")
    group.add_argument("--frames", type=integer(1, 100_000), help="length of the clip (default: as trained)")
    group.add_argument(
        "--vram",
        metavar="GIB",
        type=number(0, 10_000, above=True),
        help="free memory of the GPU (default: this machine's)",
    )
    add_base(group)


def plan_text(arguments: argparse.Namespace) -> str | None:
    """The output of `--plan`; None without that option.

    Raises:
        InputError: plan options without `--plan`, or only one of width and height.
        CheckpointError: as `describe_plan`.
    """
    base = given_base(arguments)
    names = ("width", "height", "frames", "vram", *base)
    given = [name for name in names if getattr(arguments, name) is not None]
    if not arguments.plan:
        if given:
            raise InputError(f"--{given[0].replace('_', '-')} is for --plan; add --plan.")
        return None
    if (arguments.height is None) != (arguments.width is None):
        raise InputError("height and width: only one of them is given; give both or neither.")
    from ..families.overrides import Overrides
    from ..memory.describe import describe_plan

    size = None if arguments.height is None else (arguments.height, arguments.width)
    return describe_plan(arguments.path, size, arguments.frames, arguments.vram, Overrides(**base))
