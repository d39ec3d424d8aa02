"""PyTorch pickles (.pt, .pth, .bin, .ckpt), opened only on request and only for their tensors.

`weights_only` keeps a pickle from running code, and mapping the file keeps its tensors on disk until they are read.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from ..bounded import UnreadableError, open_regular
from ..errors import CheckpointError
from ..words import one_line

PICKLES = {".bin", ".pt", ".pth", ".ckpt"}
_ARCHIVE = b"PK\x03\x04"  # torch.save's
# The protocol, then an opcode, which is never 0. A safetensors file may begin with the length 0x0280 too, but its next
# byte is 0.
_BARE = re.compile(rb"\x80[\x02-\x05][^\x00]")


def is_pickle(path: str | Path) -> bool:
    """Whether a file begins like a pickle, whatever its name; False if it cannot be read."""
    try:
        with open_regular(path) as file:
            # a safetensors file may begin with any 8 bytes of length; its header follows
            start = file.read(9)
    except (UnreadableError, OSError):
        return False
    return (start.startswith(_ARCHIVE) or begins_bare(start)) and start[8:] != b"{"


def begins_bare(start: bytes) -> bool:
    """Whether a file with these first bytes is a bare pickle, not an archive."""
    return _BARE.match(start) is not None


def read_pickle(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a pickle by name, on the CPU and mapped: nothing is read before it is used.

    A training checkpoint is reduced to its `state_dict`.

    Raises:
        CheckpointError: damaged, older than PyTorch 1.6, holding more than tensors, or not a mapping of names to
            tensors.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a damaged one may raise anything in PyTorch's unpickler
        reason = one_line(next(iter(str(error).strip().splitlines()), type(error).__name__), 200)
        raise CheckpointError(
            f"{str(path)!r} cannot be opened safely as a pickle of tensors ({reason}); get safetensors weights."
        ) from error
    if isinstance(state, dict):
        state = state.get("state_dict", state)
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{str(path)!r} does not map names to tensors; give a model's weight file.")
    return {str(name): value for name, value in state.items()}
