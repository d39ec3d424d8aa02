"""`instructx new`: make a model to train from base models."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .options import BASE, add_changes, command, integer
from .printing import say
from .progress import Progress

EXAMPLES = """\
examples:
  instructx new models/mine --mllm Qwen2.5-VL-3B-Instruct --transformer Wan2.1-T2V-14B-Diffusers \\
      --vae Wan2.1-T2V-14B-Diffusers                          the paper's model before its first step
  instructx new models/small --mllm Qwen2.5-VL-3B-Instruct --transformer wan2.1_t2v_1.3B_bf16.safetensors \\
      --vae wan_2.1_vae.safetensors --set guidance.lora_rank=64     the same on a smaller DiT, with a smaller LoRA

The base models are copied tensor by tensor: 8-bit floats with scales and GGUF become bfloat16, everything else stays
the same. Queries, LoRA and connector are new; `instructx train` trains them.
"""


def add_new(commands: Any) -> None:
    parser = command(commands, "new", "make a model to train from base models", EXAMPLES, _run_new)
    parser.add_argument("target", metavar="OUT", type=Path, help="the model folder to write")
    for option, what in BASE.items():
        parser.add_argument(
            f"--{option}",
            metavar="PATH",
            type=Path,
            required=True,
            help=f"a file or folder of {what} (forms: docs/weights.md)",
        )
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="a YAML file of the model's fields; the paper's variants are in instructx_core/training/configs/paper/"
        "variants (docs/variants.md)",
    )
    add_changes(
        parser,
        "override the paper's value of a model field, e.g. guidance.lora_rank=64 or guidance.video_queries=256",
    )
    parser.add_argument("--seed", type=integer(0, 2**63 - 1), default=0, help="seed of the new weights (default: 0)")


def _run_new(arguments: argparse.Namespace) -> None:
    from ..training.new_model import make_model

    base = {part: getattr(arguments, part) for part in BASE}
    with Progress("bytes") as progress:
        make_model(
            arguments.target,
            **base,
            changes=arguments.changes,
            seed=arguments.seed,
            config=arguments.config,
            progress=progress,
        )
    say(arguments.target)
