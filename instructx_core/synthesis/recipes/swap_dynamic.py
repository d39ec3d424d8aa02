"""Swap an object in front of a moving background: inpaint its mask in every frame."""

from __future__ import annotations

from torch import Tensor

from ..candidate import Drop, Tray
from ..clips import Clip
from ..experts import Experts, Subject
from .base import Choices, Found, Recipe
from .swap import swap, swap_tasks


def make(clip: Clip, experts: Experts, choices: Choices, tray: Tray) -> None:
    subjects = experts.describe.subjects(clip.frames, choices.subjects)
    if not subjects:
        tray.drop(swap_tasks(choices), Drop("no subject", "describe"))
    swap(clip, subjects, experts, choices, tray, background="dynamic", paint=_painted, clip_is_target=False)


def _painted(clip: Clip, found: Found, new: Subject, experts: Experts) -> Tensor:
    return experts.erase.fill(clip.frames, found.mask, new.simple)


SWAP_DYNAMIC = Recipe(
    "swap_dynamic",
    ("describe", "judge", "detect", "segment", "erase"),
    make,
    for_references=("redraw",),
    for_background=("flow",),
)
