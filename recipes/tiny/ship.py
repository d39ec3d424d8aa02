"""Save a trained model as the package ships it, at half its size: `python -m recipes.tiny.ship MODEL OUT`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from instructx_core import Editor
from instructx_core.cli.printing import complain
from instructx_core.errors import InstructXError


def ship(model: Path, output: Path) -> None:
    """Write the model in bfloat16, without the auxiliary losses. Raises CheckpointError, InputError."""
    Editor.from_pretrained(model, device="cpu", dtype=torch.bfloat16).save_pretrained(output)


def main(arguments: Sequence[str] | None = None) -> int:
    """Save the model that is asked for; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="a trained model's folder")
    parser.add_argument("output", type=Path, help="folder to write")
    asked = parser.parse_args(arguments)
    try:
        ship(asked.model, asked.output)
    except InstructXError as error:
        complain(str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
