"""The ratios that MagCache needs for a checkpoint, stored in a file in its folder.

A ratio is the norm of what the DiT's blocks add to their input, relative to the step before; it is 1 for the first step
of a run. `calibration` measures them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from ..atomic import partial_file
from ..bounded import is_file, read_json
from ..errors import CheckpointError, InputError

MAG_RATIOS = "mag_ratios.json"


def read_ratios(folder: Path) -> list[float]:
    """The ratios of the model in `folder`.

    Raises:
        InputError: they have not been measured.
        CheckpointError: the file does not contain valid ratios.
    """
    path = folder / MAG_RATIOS
    if not is_file(path):
        raise InputError(
            f"cache 'mag' needs {MAG_RATIOS} in the model's folder, but {str(folder)!r} has none; create it with "
            "`instructx calibrate FOLDER`."
        )
    try:
        ratios = read_json(path)["ratios"]
        good = are_ratios(ratios)
    except (InputError, KeyError, TypeError, OverflowError):  # OverflowError: an integer of 400 digits
        good = False
    if not good:
        raise CheckpointError(
            f"{str(path)!r} does not contain finite ratios above 0 for 2 to 1000 steps; create it again with "
            "`instructx calibrate`."
        )
    return ratios


def write_ratios(folder: Path, ratios: Sequence[float]) -> Path:
    """Write the ratios of a model to its folder, atomically.

    Raises:
        InputError: the file cannot be written.
    """
    path = folder / MAG_RATIOS
    with partial_file(path) as partial:
        partial.write_text(json.dumps({"ratios": list(ratios)}, indent=2) + "\n", encoding="utf-8")
    return path


def are_ratios(ratios: Sequence[float]) -> bool:
    """Whether these are valid ratios: of 2 to 1000 steps, finite and above 0. Raises TypeError for a non-number."""
    return 2 <= len(ratios) <= 1000 and all(math.isfinite(ratio) and ratio > 0 for ratio in ratios)
