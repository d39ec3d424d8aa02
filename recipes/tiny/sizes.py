"""Check model sizes given in a config: wrong ones are reported in a sentence before anything is built or drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from instructx_core.errors import InputError
from instructx_core.words import one_line, quoted, shown

Model = TypeVar("Model", bound=nn.Module)
LARGEST = 10**9  # of any single number; the whole model is limited by its parameters
MOST_PARAMETERS = 50_000_000_000


def check_numbers(sizes: Any, name: str) -> None:
    """Raise InputError if a number under `name` is no size: negative, not finite, above `LARGEST`, or 0 (but in lists).

    Given a layer count of -1, a library would build a model without layers.
    """
    if isinstance(sizes, dict):
        for key, value in sizes.items():
            check_numbers(value, f"{name}.{quoted(key)[1:-1]}")
            if type(value) is int and value == 0:
                raise InputError(f"In the training config, {name}.{quoted(key)[1:-1]} is 0; give a larger number.")
    elif isinstance(sizes, list):
        for value in sizes:
            check_numbers(value, name)
    elif isinstance(sizes, float) and not math.isfinite(sizes):
        raise InputError(f"In the training config, {name} is {sizes}; give a finite number.")
    elif isinstance(sizes, int) and not 0 <= sizes <= LARGEST:
        raise InputError(f"In the training config, {name} is {shown(sizes)}; give a number from 0 to {LARGEST}.")


def check_sized(build: Callable[[], nn.Module], name: str) -> None:
    """Build a model without weights to check its sizes.

    Args:
        name: the config section with its sizes.

    Raises:
        InputError: its library rejects the sizes, or it would have no parameters or more than `MOST_PARAMETERS`.
    """
    with refusing(name), torch.device("meta"):
        count = sum(parameter.numel() for parameter in build().parameters())
        if not 0 < count <= MOST_PARAMETERS:
            raise ValueError(f"it would have {count} parameters")


class refusing:
    """Turns any error that a library raises about model sizes in the block into a sentence naming the section."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, InputError):
            raise InputError(
                f"In the training config, the sizes under {self.name} cannot be used: {type(error).__name__}: "
                f"{one_line(error, 200)}; see the configs of stage 0."
            ) from error
