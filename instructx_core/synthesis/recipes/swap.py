"""The steps that both swaps share: find an object, paint another in its place, and find that one too."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from ..candidate import Drop, Tray
from ..clips import Clip
from ..experts import Experts, Subject
from .base import Choices, Found, find
from .motion import unsuited

# (clip, the object found, its replacement, experts) -> frames with the replacement
Paint = Callable[[Clip, Found, Subject, Experts], Tensor]


def swap(
    clip: Clip,
    subjects: Sequence[Subject],
    experts: Experts,
    choices: Choices,
    tray: Tray,
    *,
    background: str,
    paint: Paint,
    clip_is_target: bool,
) -> None:
    """Add the pairs of all subjects.

    Args:
        background: the kind that the recipe is for.
        clip_is_target: the painted frames are the source and the clip the target; otherwise the reverse.
    """
    tasks = swap_tasks(choices)
    for subject in subjects:
        about = {"subject": subject.simple}
        ready = _ready(clip, subject, experts, choices, background)
        if isinstance(ready, Drop):
            tray.drop(tasks, ready, about=about)
            continue
        found, other = ready
        painted = paint(clip, found, other, experts)
        made = find(painted, other, experts, choices)
        if isinstance(made, Drop):
            tray.drop(tasks, Drop(f"the new one is {made.reason}", made.stage), about=about)
            continue
        ends = [(clip.frames, found), (painted, made)]
        (before, old), (after, new) = reversed(ends) if clip_is_target else ends
        for task in tasks:
            portrait = task == "reference_swap"
            tray.add(
                task,
                before,
                target=after,
                instructions=(experts.describe.instruct(task, before, after, old.subject, new.subject),),
                reference=experts.redraw.portray(after[0], new.mask[0], new.subject.simple) if portrait else None,
                mask=found.mask | made.mask,
                scores={"detection": min(found.scores["detection"], made.scores["detection"])},
                about={"subject": old.subject.simple, "new": new.subject.simple},
            )


def _ready(
    clip: Clip, subject: Subject, experts: Experts, choices: Choices, background: str
) -> tuple[Found, Subject] | Drop:
    """The object found and its replacement, or why the clip cannot be used."""
    found = find(clip.frames, subject, experts, choices)
    if isinstance(found, Drop):
        return found
    if drop := unsuited(clip.frames, found.mask, experts, choices, background):
        return drop
    other = experts.describe.alternative(clip.frames, subject)
    return Drop("no alternative", "describe") if other is None else (found, other)


def swap_tasks(choices: Choices) -> tuple[str, ...]:
    return ("swap", "reference_swap")[: 2 if choices.references else 1]
