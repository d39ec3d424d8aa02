"""A device of this machine, by name."""

from __future__ import annotations

import torch

from .errors import InputError


def pick_device(device: str | torch.device | None) -> torch.device:
    """A device of this machine by its name; None for the accelerator, else the CPU.

    Raises:
        InputError: there is no such device.
    """
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        picked = torch.device(device)
        torch.empty(0, device=picked)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"There is no device {str(device)!r} here; use cpu, or cuda where a GPU is installed."
        ) from error
    return picked
