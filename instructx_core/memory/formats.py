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


def has_8_bit_floats(device: torch.device) -> bool:
    """Whether a device has the 8-bit floats that packed weights are unpacked with: PyTorch 2.13 has none on mps."""
    return device.type != "mps"


def check_fp8(fp8: bool, device: torch.device) -> None:
    """Raise InputError if weights are to be kept in 8-bit floats on a device that has none."""
    if fp8 and not has_8_bit_floats(device):
        raise InputError(f"fp8 needs 8-bit floats, which the device {device.type} does not have; leave out fp8.")
