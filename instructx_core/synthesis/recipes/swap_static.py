"""Swap a person before a static background: the edited first frame, driven by the clip's own poses, is the source; the
clip itself, which is real, is the target."""

from __future__ import annotations

from ..candidate import Tray
from ..clips import Clip
from ..experts import Experts
from .base import Choices, Recipe, find
from .motion import unsuited


def make(clip: Clip, experts: Experts, choices: Choices, tray: Tray) -> None:
    tasks = ("swap", "reference_swap")[: 2 if choices.references else 1]
    people = [one for one in experts.describe.subjects(clip.frames, choices.subjects) if one.person]
    if not people:
        tray.drop(tasks, "no person")
    for person in people:
        about = {"subject": person.simple}
        found = find(clip.frames, person, experts, choices)
        other = experts.describe.alternative(clip.frames, person)
        reason = (
            found
            if isinstance(found, str)
            else "no alternative"
            if other is None
            else unsuited(clip.frames, found.mask, experts, choices, "static")
        )
        if reason:
            tray.drop(tasks, reason, about=about)
            continue
        first = experts.redraw.edit(clip.frames[0], f"replace the {person.simple} with a {other.simple}")
        poses = experts.pose.poses(clip.frames, found.mask)
        driven = experts.animate.animate(first, clip.frames, poses)
        made = find(driven, other, experts, choices)
        if isinstance(made, str):
            tray.drop(tasks, f"the new one is {made}", about=about)
            continue
        for task in tasks:
            portrait = task == "reference_swap"
            tray.add(
                task,
                driven,
                target=clip.frames,
                instructions=(experts.describe.instruct(task, driven, clip.frames, other, person),),
                reference=experts.redraw.portray(clip.frames[0], found.mask[0], person.simple) if portrait else None,
                mask=found.mask | made.mask,
                scores={"detection": min(found.scores["detection"], made.scores["detection"])},
                about={"subject": other.simple, "new": person.simple},
            )


SWAP_STATIC = Recipe(
    "swap_static", ("describe", "judge", "detect", "segment", "redraw", "pose", "animate", "flow"), make
)
