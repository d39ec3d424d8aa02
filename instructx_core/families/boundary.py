"""The noise level at which a pair of DiTs takes turns, as stated in model files: the first denoises above it."""

from __future__ import annotations

from pathlib import Path

from ..bounded import is_file
from ..errors import CheckpointError
from ..schedules import is_number
from ..weights.files import read_json
from ..words import quoted_path, shown

USUAL = 0.875  # of Wan2.2-T2V-A14B
INDEX, RATIO = "model_index.json", "boundary_ratio"  # diffusers'


def read_boundary(file: Path, field: str = RATIO) -> float | None:
    """Read the boundary from a JSON file; None if the file is missing or leaves it unset (absent, null, 0).

    Raises:
        CheckpointError: invalid JSON, or not a number above 0 and below 1.
    """
    said = read_json(file).get(field) if is_file(file) else None
    if said is None or (is_number(said) and said == 0):
        return None
    if not is_number(said) or not 0 < said < 1:
        raise CheckpointError(
            f"{quoted_path(file)} sets {field} to {shown(said)}; it is the noise level at which one DiT hands over to "
            f"the other, so give a number above 0 and below 1, such as {USUAL}."
        )
    return float(said)
