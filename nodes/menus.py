"""What is wrong with a menu's value, said on the node before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..instructx_core.errors import InstructXError


def problem(check: Callable[..., Any], *values: Any) -> bool | str:
    """What `check` says against `values`, True if nothing: what ComfyUI's `validate_inputs` returns."""
    try:
        check(*values)
    except InstructXError as error:
        return str(error)
    return True
