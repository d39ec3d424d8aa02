"""The ways of keeping a model's weights, by name; free of torch, for the command line."""

from __future__ import annotations

from enum import Enum

from ..errors import InputError
from ..words import shown


class Memory(str, Enum):
    """What is on the device while it is not needed: each less than the one before, and each takes more time."""

    AUTO = "auto"  # the first of these that fits
    FULL = "full"  # everything
    MODEL = "model"  # one part at a time: MLLM, then VAE, DiT and VAE
    GROUP = "group"  # the DiT block by block while the last one computes, the MLLM layer by layer, the whole VAE
    SEQUENTIAL = "sequential"  # everything layer by layer


NAMES = [memory.value for memory in Memory]
FORMATS = ("auto", "float32", "bfloat16", "float16")  # of numbers; auto: see `decide`


def parse_memory(text: object) -> Memory:
    """A `Memory` by its name.

    Raises:
        InputError: there is none of that name.
    """
    try:
        return Memory(text)
    except ValueError as error:
        raise InputError(f"memory is {shown(text)}; choose one of {', '.join(NAMES)}.") from error
