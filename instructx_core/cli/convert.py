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
  instructx convert models/kiwi kiwi.safetensors              only its DiT, for ComfyUI's Load Diffusion Model
  instructx convert models/kiwi kiwi/instructx.safetensors    the rest, for InstructX Load Adapter
  instructx convert models/kiwi models/other --transformer tuned.safetensors
                                                              with another DiT, in any form
  instructx convert step-500.safetensors models/mine --transformer Wan2.2-TI2V-5B-Diffusers \\
      --vae wan2.2_vae.safetensors --mllm Qwen2.5-VL-3B-Instruct
                                                              a training checkpoint, merged into its base models
  instructx convert wan_fp8_scaled.safetensors wan.safetensors
                                                              a Wan DiT in any form as one plain file
  instructx convert SmartEdit-7B models/smartedit --allow-pickle --mllm clip-vit-large-patch14 --vae sd15/vae
                                                              SmartEdit's pickles (docs/insightedit.md)

A folder gets what `instructx edit --model IN` with the same options would use, and can itself be given as --model.
Weights are copied tensor by tensor, so they may be larger than memory. The result appears only once it is complete,
with its checksums (for `sha256sum -c`).
"""


def add_convert(commands: Any) -> None:
    parser = command(commands, "convert", "convert a model's files into another layout", EXAMPLES, _run_convert)
    parser.add_argument(
        "source",
        metavar="IN",
        type=Path,
        help="any model that `instructx edit --model` takes; or a Wan DiT in any form, to write as one plain file",
    )
    parser.add_argument(
        "target",
        metavar="OUT",
        type=Path,
        help="the folder to write; or a .safetensors file for only the DiT, or for only the adapter if it is named "
        "instructx.safetensors",
    )
    add_base(parser)
    parser.add_argument(
        "--allow-pickle",
        action="store_true",
        help="also read the tensors of a DiT, VAE or MLLM from pickles (.pt, .pth, .bin; default: refuse them)",
    )


def _run_convert(arguments: argparse.Namespace) -> None:
    from ..convert import convert
    from ..families.overrides import Overrides

    overrides = Overrides(**given_base(arguments))
    with Progress("bytes") as progress:
        convert(arguments.source, arguments.target, overrides, arguments.allow_pickle, progress)
    say(arguments.target)
