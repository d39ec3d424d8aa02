"""Choose a device of this machine by name."""

from __future__ import annotations

import torch

from .errors import InputError
from .words import shown

# what PyTorch raises for unknown devices; ImportError: for the "privateuseone" backend without its package
_NONE = (RuntimeError, AssertionError, TypeError, ValueError, OverflowError, ImportError)
_ADVICE = "use cpu, cuda with an NVIDIA or AMD GPU, or mps on a Mac"


def pick_device(device: object) -> torch.device:
    """The device of this name or `torch.device`; None for the accelerator if there is one, else the CPU.

    Raises:
        InputError: there is no such device, or it is "meta", which cannot compute.
    """
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        picked = torch.device(device)  # type: ignore[arg-type]
        torch.empty(0, device=picked)
    except _NONE as error:
        raise InputError(f"There is no device {shown(device)} here; {_ADVICE}.") from error
    if picked.type == "meta":
        raise InputError(f"The device 'meta' stores no values; {_ADVICE}.")
    return picked
