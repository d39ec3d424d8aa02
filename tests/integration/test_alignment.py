"""Stage 1 of the paper aligns with a frozen DiT: benchmarks/alignment.py at sizes where it takes a minute."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from instructx_core.weights.files import read_safetensors
from support.places import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

DIT = "transformer/diffusion_pytorch_model.safetensors"


@pytest.mark.slow
def test_queries_are_aligned_and_the_dit_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import alignment

    monkeypatch.setattr(alignment, "DRAWS", 2)
    both = ("data.images=200", "data.sizes=[[32, 32]]", "data.image_batch=8")
    stage1 = ("steps=40", "learning_rate=2.0e-3", "data.step_images=8")
    found = alignment.run(tmp_path, both, ("steps=60",), stage1)
    for norms in found["gradient norms"].values():
        assert all(norm > 0 for part, norm in norms.items()), norms
    losses = found["losses"]
    assert losses["after"] < losses["before"]
    dits = [read_safetensors(tmp_path / name / DIT)[0] for name in ("generator/model", "start", "stage1/model")]
    for name, value in dits[0].items():
        assert all(torch.equal(value, other[name]) for other in dits[1:]), name
    again = alignment.run(tmp_path, both, ("steps=60",), stage1)  # nothing is trained again
    assert again["losses"] == losses and again["stage 1"]["minutes"] == 0
