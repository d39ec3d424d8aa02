"""`instructx convert`: convert a model's files into another layout."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .options import add_base, command, given_base
from .printing import say
from .progress import Progress

EXAMPLES = """\
examples:
  instructx convert kiwi-edit-5b-diffusers models/kiwi        Kiwi-Edit's published folder in this layout
  instructx convert models/kiwi kiwi.safetensors              its DiT alone, for ComfyUI's Load Diffusion Model
  instructx convert models/kiwi kiwi/instructx.safetensors    the rest that InstructX Load Adapter puts onto it
  instructx convert models/kiwi models/other --transformer tuned.safetensors
                                                              with another DiT, in any form
  instructx convert step-500.safetensors models/mine --transformer Wan2.2-TI2V-5B-Diffusers \\
      --vae wan2.2_vae.safetensors --mllm Qwen2.5-VL-3B-Instruct
                                                              a training checkpoint, merged into its base models
  instructx convert wan_fp8_scaled.safetensors wan.safetensors
                                                              a Wan DiT in any form as one plain file
  instructx convert SmartEdit-7B models/smartedit --allow-pickle --mllm clip-vit-large-patch14 --vae sd15/vae
                                                              SmartEdit's pickles (docs/insightedit.md)

What a folder holds is what `instructx edit --model IN` with the same options would use; `instructx edit --model` reads
it. Weights are copied tensor by tensor, so they may be larger than memory. The result appears only when it is complete,
with its checksums (`sha256sum -c` reads them).
"""


def add_convert(commands: Any) -> None:
    parser = command(commands, "convert", "convert a model's files into another layout", EXAMPLES, _run_convert)
    parser.add_argument(
        "source",
        metavar="IN",
        type=Path,
        help="a model as --model of `instructx edit` reads it; or a Wan DiT in any form, to make one plain file of it",
    )
    parser.add_argument(
        "target",
        metavar="OUT",
        type=Path,
        help="the folder to write; or a .safetensors file for the DiT alone, for the adapter alone if it is called "
        "instructx.safetensors",
    )
    add_base(parser)
    parser.add_argument(
        "--allow-pickle",
        action="store_true",
        help="open pickles (.pt, .pth, .bin) of DiT, VAE and MLLM too, for their tensors alone (default: refuse them)",
    )


def _run_convert(arguments: argparse.Namespace) -> None:
    from ..convert import convert
    from ..families.overrides import Overrides

    overrides = Overrides(**given_base(arguments))
    with Progress("bytes") as progress:
        convert(arguments.source, arguments.target, overrides, arguments.allow_pickle, progress)
    say(arguments.target)
