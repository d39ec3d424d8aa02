"""Models of other authors with what their own code computed: tiny ones in golden, further ones elsewhere.

`RECORDED_MODELS` names a folder with larger models of the same layouts; the tests then compare these as well.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from instructx_core.weights.files import read_safetensors
from support.golden_runs import GOLDEN

OUTPUTS = "reference_outputs.safetensors"


def folders(name: str) -> list[Path]:
    """The folders of a recorded model: `golden/NAME`, and `NAME-tiny` of `RECORDED_MODELS` where that is given."""
    root = os.environ.get("RECORDED_MODELS")
    found = [GOLDEN / name] + ([Path(root) / f"{name}-tiny"] if root else [])
    for each in found:
        assert (each / OUTPUTS).is_file(), f"{each} has no {OUTPUTS}"
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
