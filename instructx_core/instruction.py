"""The instruction: a sentence that says what to change."""

from __future__ import annotations

import re

from .errors import InputError

LONGEST = 10_000  # characters: about 3,000 tokens, which the MLLM reads in seconds on a CPU


_REFERENCE = re.compile(
    r"\breference (?:image|picture|photo|frame|object|subject|shape|one)s?\b"
    r"|\b(?:in|from|of|by|like) (?:the|this|my) references?(?=\s*(?:$|[.,;!?]|and\b))"
    r"|参考图",
    re.IGNORECASE,
)


def speaks_of_a_reference(text: str) -> bool:
    """Whether an instruction mentions a reference by that word, as in "the object in the reference"."""
    return _REFERENCE.search(text) is not None


def check_instruction(instruction: object) -> None:
    """Raise InputError unless `instruction` is a sentence of at most `LONGEST` characters."""
    if not isinstance(instruction, str) or not instruction.strip():
        raise InputError(
            "The instruction is empty; say in a sentence what to change, for example 'make the red circle blue'."
        )
    if len(instruction) > LONGEST:
        raise InputError(f"The instruction has {len(instruction)} characters; give at most {LONGEST}.")
    try:
        instruction.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"The instruction is not valid Unicode text (character {error.start + 1}); type it in a terminal that is "
            "set to UTF-8."
        ) from error
