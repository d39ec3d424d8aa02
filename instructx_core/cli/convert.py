"""`instructx convert`: a model's files into another layout."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .options import command
from .progress import Progress

EXAMPLES = """\
examples:
  instructx convert kiwi-edit-5b-diffusers models/kiwi        Kiwi-Edit's published folder in this layout
  instructx convert kiwi-edit-5b-diffusers kiwi.safetensors   its DiT alone, for ComfyUI's Load Diffusion Model

Weights are copied tensor by tensor, so they may be larger than memory; pickles are never opened. The result appears
only when it is complete. `instructx edit --model` reads either folder.
"""


def add_convert(commands: Any) -> None:
    parser = command(commands, "convert", "convert a model's files into another layout", EXAMPLES, _run_convert)
    parser.add_argument("source", metavar="IN", type=Path, help="a model folder, such as Kiwi-Edit's published one")
    parser.add_argument(
        "target", metavar="OUT", type=Path, help="the folder to write, or a .safetensors file for the DiT alone"
    )


def _run_convert(arguments: argparse.Namespace) -> None:
    from ..checkpoints.convert import convert

    with Progress("bytes") as progress:
        convert(arguments.source, arguments.target, progress)
    print(arguments.target)
