"""The instruction: a sentence that says what to change."""

from __future__ import annotations

from .errors import InputError


def check_instruction(instruction: object) -> None:
    """Raise InputError unless `instruction` is a sentence."""
    if not isinstance(instruction, str) or not instruction.strip():
        raise InputError(
            "The instruction is empty; say in a sentence what to change, for example 'make the red circle blue'."
        )
