"""The auxiliary losses' weights, saved next to a stage's model: a reader trained from scratch takes hundreds of steps.

The Editor does not use them.
"""

from __future__ import annotations

from pathlib import Path

from torch import nn

from instructx_core.weights.files import read_tensors, write_safetensors

FILE = "auxiliary.safetensors"
LOSSES = ("reader", "hearer", "locator", "namer")  # modules of a stage; None if it does not use one


def keep(module: nn.Module, folder: Path) -> None:
    """Save the auxiliary losses of `module` to `folder`, if it has any. Raises InputError."""
    found = {name: value for name, value in module.state_dict().items() if name.partition(".")[0] in LOSSES}
    if found:
        write_safetensors(folder / FILE, found)


def take(module: nn.Module, folder: Path) -> None:
    """Load the auxiliary losses of `module` from the model in `folder`.

    A loss that the model did not have, or that reads tokens of a different width, starts from scratch.

    Raises:
        CheckpointError, InputError: the file is damaged.
    """
    if not (folder / FILE).is_file():
        return
    found = read_tensors(folder / FILE)
    for name in LOSSES:
        own = getattr(module, name, None)
        if own is None:
            continue
        kept = {key.removeprefix(f"{name}."): value for key, value in found.items() if key.startswith(f"{name}.")}
        shapes = {key: value.shape for key, value in own.state_dict().items()}
        if {key: value.shape for key, value in kept.items()} == shapes:
            own.load_state_dict(kept)
