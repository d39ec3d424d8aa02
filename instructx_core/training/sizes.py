"""Models that a config gives the sizes of: built without weights first, so that wrong sizes end in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from ..errors import InputError
from ..words import one_line

Model = TypeVar("Model", bound=nn.Module)
MOST_PARAMETERS = 50_000_000_000


def build_sized(build: Callable[[], Model], what: str) -> Model:
    """The model that `build` makes, unless its library refuses the sizes or they are beyond reason.

    Raises:
        InputError: with `what` and the library's reason.
    """
    try:
        with torch.device("meta"):
            count = sum(parameter.numel() for parameter in build().parameters())
        if not 0 < count <= MOST_PARAMETERS:
            raise ValueError(f"it would have {count} parameters")
        return build()
    except Exception as error:  # whatever a library makes of a size that is a text, 0 or 10 ** 12
        raise InputError(
            f"In the training config, {what} cannot be built: {one_line(error, 200)}; see the configs of stage 0."
        ) from error
