"""Edits give the numbers that tests/support/golden recorded: a refactor that changes one is no refactor.

Made anew by tests/support/record_goldens.py, and only where numbers are meant to change.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from support import golden_runs

# With 1 or 2 threads values differ by up to 4e-6, with SSE4's kernels instead of AVX-512's by up to 1.4e-4 (measured).
# The random models' latents differ from one another by more than 0.3.
TOLERANCE = {"context": 2e-4, "latents": 5e-4, "frames": 5e-4}
LONG_TOLERANCE = 2 / 255  # over files: 8 bits and a codec, 4e-3 between x264 with one slice and with several


def recorded(name: str) -> dict[str, torch.Tensor]:
    return load_file(golden_runs.GOLDEN / f"{name}.safetensors")


@pytest.mark.parametrize("name", golden_runs.MODELS)
def test_edits_give_the_recorded_numbers(name: str, tmp_path: Path):
    expected, found = recorded(name), golden_runs.run(name, tmp_path)
    assert found.keys() == expected.keys()
    off = {}
    for key, value in expected.items():
        tolerance = LONG_TOLERANCE if key == "long.frames" else TOLERANCE[key.split(".")[-1]]
        difference = float((found[key] - value).abs().max())
        if not difference <= tolerance:  # NaN too
            off[key] = f"{difference:.1e} > {tolerance:.1e}"
    assert not off


def test_every_edit_is_recorded_with_variety():
    """No recorded tensor is flat, and every way of injection leaves its own trace in the latents."""
    for name in golden_runs.MODELS:
        for key, value in recorded(name).items():
            assert value.isfinite().all() and value.std() > 0.05, (name, key)
    for one, other in itertools.combinations(golden_runs.VARIANTS, 2):
        first, second = recorded(one), recorded(other)
        assert (first["reference.latents"] - second["reference.latents"]).abs().max() > 0.3, (one, other)
