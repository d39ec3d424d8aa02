"""The dtypes of weights, by name."""

from __future__ import annotations

import torch

from ..errors import InputError
from ..words import shown
from .choice import FORMATS


def pick_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """A dtype by its name; None for "auto".

    Raises:
        InputError: unknown name, or a dtype that models do not compute in.
    """
    name = "auto" if dtype is None else str(dtype).removeprefix("torch.")
    if name not in FORMATS:
        raise InputError(f"dtype is {shown(name)}; choose one of {', '.join(FORMATS)}.")
    return None if name == "auto" else getattr(torch, name)
