"""Names of the ways to keep a model's weights; without torch, for the command line."""

from __future__ import annotations

from enum import Enum

from ..errors import InputError
from ..words import shown


class Memory(str, Enum):
    """Which weights stay on the device while unused: each keeps fewer than the one before, and is slower."""

    AUTO = "auto"  # the first of these that fits
    FULL = "full"  # everything
    MODEL = "model"  # one part at a time: MLLM, then VAE, DiT and VAE
    GROUP = "group"  # DiT block by block, the next loading while one computes; MLLM layer by layer; the whole VAE
    SEQUENTIAL = "sequential"  # everything layer by layer


NAMES = [memory.value for memory in Memory]
FORMATS = ("auto", "float32", "bfloat16", "float16")  # dtypes; auto: see `decide`


def parse_memory(text: object) -> Memory:
    """A `Memory` by its name.

    Raises:
        InputError: unknown name.
    """
    try:
        return Memory(text)
    except ValueError as error:
        raise InputError(f"memory is {shown(text)}; choose one of {', '.join(NAMES)}.") from error
