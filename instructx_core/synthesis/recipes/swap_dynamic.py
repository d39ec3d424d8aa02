"""Swap a thing before a moving background: its mask is painted anew in every frame."""

from __future__ import annotations

from ..candidate import Tray
from ..clips import Clip
from ..experts import Experts
from .base import Choices, Recipe, find
from .motion import unsuited


def make(clip: Clip, experts: Experts, choices: Choices, tray: Tray) -> None:
    tasks = ("swap", "reference_swap")[: 2 if choices.references else 1]
    subjects = experts.describe.subjects(clip.frames, choices.subjects)
    if not subjects:
        tray.drop(tasks, "no subject")
    for subject in subjects:
        about = {"subject": subject.simple}
        found = find(clip.frames, subject, experts, choices)
        new = experts.describe.alternative(clip.frames, subject)
        reason = (
            found
            if isinstance(found, str)
            else "no alternative"
            if new is None
            else unsuited(clip.frames, found.mask, experts, choices, "dynamic")
        )
        if reason:
            tray.drop(tasks, reason, about=about)
            continue
        painted = experts.erase.fill(clip.frames, found.mask, new.simple)
        made = find(painted, new, experts, choices)
        if isinstance(made, str):
            tray.drop(tasks, f"the new one is {made}", about=about)
            continue
        for task in tasks:
            portrait = task == "reference_swap"
            tray.add(
                task,
                clip.frames,
                target=painted,
                instructions=(experts.describe.instruct(task, clip.frames, painted, subject, new),),
                reference=experts.redraw.portray(painted[0], made.mask[0], new.simple) if portrait else None,
                mask=found.mask | made.mask,
                scores={"detection": min(found.scores["detection"], made.scores["detection"])},
                about={"subject": subject.simple, "new": new.simple},
            )


SWAP_DYNAMIC = Recipe("swap_dynamic", ("describe", "judge", "detect", "segment", "erase", "redraw", "flow"), make)
