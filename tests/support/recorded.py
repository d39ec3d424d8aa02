"""Models of other authors with what their own code computed, which are outside this repository because of their size.

`RECORDED_MODELS` names the folder that holds them; without it the tests that need them are skipped, and say so.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from instructx_core.weights.files import read_safetensors

OUTPUTS = "reference_outputs.safetensors"


def folder(name: str) -> Path:
    """The folder of a recorded model. Skips where there is none."""
    root = os.environ.get("RECORDED_MODELS")
    if not root:
        pytest.skip(f"RECORDED_MODELS names no folder, so {name} is not compared with its authors' own outputs")
    found = Path(root) / name
    assert (found / OUTPUTS).is_file(), f"{found} has no {OUTPUTS}"
    return found


@dataclass(frozen=True)
class Outputs:
    """What the authors' code computed."""

    tensors: dict[str, torch.Tensor]
    metadata: dict[str, str]

    @classmethod
    def of(cls, model: Path) -> Outputs:
        return cls(*read_safetensors(model / OUTPUTS))

    def said(self, name: str) -> object:
        """A value of the metadata."""
        return json.loads(self.metadata[name])


def check_close(found: torch.Tensor, wanted: torch.Tensor, most: float = 1e-3) -> None:
    assert found.shape == wanted.shape
    torch.testing.assert_close(found.float(), wanted.float(), rtol=0, atol=most)


def check_frames(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """uint8 frames: within 1 of 255 on 99.5 % of the values, for the authors cut off and this library rounds."""
    assert found.shape == wanted.shape and found.dtype == wanted.dtype == torch.uint8
    assert ((found.int() - wanted.int()).abs() <= 1).float().mean() >= 0.995
