"""Number formats of weights, by name."""

from __future__ import annotations

import torch

from ..errors import InputError
from ..words import shown
from .choice import FORMATS


def pick_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """A number format by its name; None for "auto".

    Raises:
        InputError: there is none of that name, or it is no format that models compute in.
    """
    name = "auto" if dtype is None else str(dtype).removeprefix("torch.")
    if name not in FORMATS:
        raise InputError(f"dtype is {shown(name)}; choose one of {', '.join(FORMATS)}.")
    return None if name == "auto" else getattr(torch, name)
