"""Save a trained model as the package ships it, at half its size: `python -m recipes.tiny.ship MODEL OUT`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from instructx_core import Editor


def ship(model: Path, output: Path) -> None:
    """Write the model in bfloat16, without the auxiliary losses. Raises CheckpointError, InputError."""
    Editor.from_pretrained(model, device="cpu", dtype=torch.bfloat16).save_pretrained(output)


if __name__ == "__main__":
    ship(*map(Path, sys.argv[1:]))
