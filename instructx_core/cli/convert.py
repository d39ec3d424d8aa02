"""`instructx convert`: a model's files into another layout."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from .options import command
from .progress import Progress

EXAMPLES = """\
examples:
  instructx convert kiwi-edit-5b-diffusers models/kiwi        Kiwi-Edit's published folder in this layout
  instructx convert models/kiwi kiwi-again                    and back
  instructx convert models/kiwi kiwi.safetensors              its DiT alone, for ComfyUI's Load Diffusion Model
  instructx convert models/kiwi kiwi/instructx.safetensors    the rest that InstructX Load Adapter puts onto it
  instructx convert tuned.safetensors models/tuned --base models/kiwi    a DiT in one file as a model folder

Weights are copied tensor by tensor, so they may be larger than memory. The result appears only when it is complete,
with its checksums (`sha256sum -c` reads them); run the same command again to go on after an interruption.
`instructx edit --model` reads either folder.
"""


def add_convert(commands: Any) -> None:
    parser = command(commands, "convert", "convert a model's files into another layout", EXAMPLES, _run_convert)
    parser.add_argument(
        "source", metavar="IN", type=Path, help="a model folder, such as Kiwi-Edit's published one; or a weight file"
    )
    parser.add_argument(
        "target",
        metavar="OUT",
        type=Path,
        help="the folder to write; or a .safetensors file for the DiT alone, for the adapter alone if it is called "
        "instructx.safetensors",
    )
    parser.add_argument(
        "--base", metavar="DIR", type=Path, help="a model folder that gives whatever a weight file does not hold"
    )
    parser.add_argument(
        "--allow-pickle",
        action="store_true",
        help="open pickles (.pt, .pth, .bin) too, for their tensors alone (default: refuse them)",
    )


def _run_convert(arguments: argparse.Namespace) -> None:
    from ..checkpoints.convert import convert

    try:
        with Progress("bytes") as progress:
            written = convert(arguments.source, arguments.target, arguments.base, arguments.allow_pickle, progress)
    except KeyboardInterrupt:
        print("\ninstructx: what was written is kept; run the same command to go on.", file=sys.stderr)
        raise
    if written.kept:
        print(f"{written.kept / 1e6:.1f} MB were there from an earlier run, compared and kept.", file=sys.stderr)
    print(arguments.target)
