"""Where an instruction lies outside of what the bundled model was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .folders import BUNDLED_NAME
from .notes import say

if TYPE_CHECKING:
    from .sockets import LoadedMllm


def warn(mllm: LoadedMllm, instruction: str) -> None:
    """Say on the node, and in the log, which words the bundled model has never read; other models are not judged."""
    from ..instructx_core.world import unknown_words

    if mllm.name != BUNDLED_NAME:
        return
    if unknown := unknown_words(instruction):
        say(
            f"InstructX Tiny has never read {', '.join(unknown)}: it knows coloured shapes and their surroundings, and"
            " may damage other pictures. Choose another model for this."
        )
