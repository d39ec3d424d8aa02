"""Warn when an edit is outside what a bundled model was trained on."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .folders import BUNDLED_NAME, INSIGHTEDIT_NAME
from .notes import say

if TYPE_CHECKING:
    import torch

    from .sockets import LoadedMllm


@dataclass(frozen=True)
class Depth:
    """What a model knows, in words.

    Attributes:
        things: the subjects of the instructions that it was trained on.
        photographs: what it can and cannot do to photographs.
        looks: whether it knows tone, style and weather.
        chinese: whether it reads Chinese as well as English.
    """

    name: str
    things: str
    photographs: str
    looks: bool
    chinese: bool


DEPTHS = {
    BUNDLED_NAME: Depth(
        "InstructX Tiny",
        "coloured shapes, their backgrounds, and the colours, light, weather and style of whole pictures",
        "can change its colours, light, weather and style, but not the things in it; choose another model for those",
        looks=True,
        chinese=True,
    ),
    INSIGHTEDIT_NAME: Depth(
        "InsightEdit Tiny",
        "coloured shapes and their backgrounds",
        "never saw one and works at 64 x 64; choose another model for it",
        looks=False,
        chinese=False,
    ),
}


def outside(mllm: LoadedMllm, instruction: str, frames: torch.Tensor) -> str:
    """What a bundled model does not know in an instruction and frames [T, H, W, 3]; empty for other models."""
    from ..instructx_core.world import looks_drawn, unknown_words

    if (depth := DEPTHS.get(mllm.name)) is None:
        return ""
    said = []
    if unknown := unknown_words(instruction, depth.looks):
        said.append(
            f"{depth.name} never learned {_listed(unknown)}. It knows {depth.things}; choose another model for"
            " anything else."
        )
    if not depth.chinese and not _is_latin(instruction):
        said.append(f"{depth.name} reads only English.")
    if not looks_drawn(frames[0].numpy()):
        said.append(f"This looks like a photograph. {depth.name} {depth.photographs}.")
    return " ".join(said)


def warn(mllm: LoadedMllm, instruction: str, frames: torch.Tensor) -> None:
    """Show the text of `outside`, if any, on the node and in the log."""
    if said := outside(mllm, instruction, frames):
        say(said)


def _is_latin(words: str) -> bool:
    """Whether all letters of a text are Latin, with or without accents."""
    return all(unicodedata.name(letter, "").startswith("LATIN") for letter in words if letter.isalpha())


def _listed(words: tuple[str, ...]) -> str:
    """Format words as "a", "b" or "c"."""
    quoted = [f'"{word}"' for word in words]
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]]) if len(quoted) > 1 else quoted[0]
