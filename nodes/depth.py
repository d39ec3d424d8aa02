"""Where an edit lies outside of what the bundled model was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .folders import BUNDLED_NAME
from .notes import say

if TYPE_CHECKING:
    import torch

    from .sockets import LoadedMllm

PHOTOGRAPH = (
    "This looks like a photograph. InstructX Tiny can change its colours, light, weather and style, but not the things"
    " in it; choose another model for those."
)
WORDS = (
    "InstructX Tiny never learned {}. It knows coloured shapes, their backgrounds, and the colours, light, weather and"
    " style of whole pictures; choose another model for anything else."
)


def outside(mllm: LoadedMllm, instruction: str, frames: torch.Tensor) -> str:
    """What the bundled model does not know of an instruction and of frames [T, H, W, 3]; empty for other models."""
    from ..instructx_core.world import looks_drawn, unknown_words

    if mllm.name != BUNDLED_NAME:
        return ""
    unknown = unknown_words(instruction)
    said = [WORDS.format(_listed(unknown))] if unknown else []
    if not looks_drawn(frames[0].numpy()):
        said.append(PHOTOGRAPH)
    return " ".join(said)


def warn(mllm: LoadedMllm, instruction: str, frames: torch.Tensor) -> None:
    """Say it on the node and in the log."""
    if said := outside(mllm, instruction, frames):
        say(said)


def _listed(words: tuple[str, ...]) -> str:
    """As "a", "b" or "c"."""
    quoted = [f'"{word}"' for word in words]
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]]) if len(quoted) > 1 else quoted[0]
