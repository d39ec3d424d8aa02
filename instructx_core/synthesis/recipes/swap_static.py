"""Swap a person in front of a static background: the edited first frame, animated with the clip's poses, is the source;
the real clip is the target."""

from __future__ import annotations

from torch import Tensor

from ..candidate import Drop, Tray
from ..clips import Clip
from ..experts import Experts, Subject
from .base import Choices, Found, Recipe
from .swap import swap, swap_tasks


def make(clip: Clip, experts: Experts, choices: Choices, tray: Tray) -> None:
    people = [one for one in experts.describe.subjects(clip.frames, choices.subjects) if one.person]
    if not people:
        tray.drop(swap_tasks(choices), Drop("no person", "describe"))
    swap(clip, people, experts, choices, tray, background="static", paint=_driven, clip_is_target=True)


def _driven(clip: Clip, found: Found, other: Subject, experts: Experts) -> Tensor:
    first = experts.redraw.edit(clip.frames[0], f"replace the {found.subject.simple} with a {other.simple}")
    poses = experts.pose.poses(clip.frames, found.mask)
    return experts.animate.animate(first, clip.frames, poses)


SWAP_STATIC = Recipe(
    "swap_static",
    ("describe", "judge", "detect", "segment", "redraw", "pose", "animate"),
    make,
    for_background=("flow",),
)
