"""The model that training starts from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .. import families
from ..errors import InputError
from ..words import quoted_path

if TYPE_CHECKING:
    from ..families.opened import Opened


def open_start(path: str | Path) -> Opened:
    """Open a model to train.

    Raises:
        CheckpointError: no model, or a damaged one.
        InputError: a model with a pair of DiTs, which no stage trains.
    """
    opened = families.open(path)
    if opened.config.denoiser.boundary:
        raise InputError(
            f"{quoted_path(path)} has a pair of DiTs, but training takes only one; start from another model."
        )
    return opened
