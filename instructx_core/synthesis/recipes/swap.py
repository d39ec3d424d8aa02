"""What both swaps share: find a thing, make the clip with another in its place, find that one too."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from ..candidate import Tray
from ..clips import Clip
from ..experts import Experts, Subject
from .base import Choices, Found, find
from .motion import unsuited

# (clip, where the thing is, what comes in its place, experts) -> frames with that in its place
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
        clip_is_target: the painted frames are the source, else they are the target.
    """
    tasks = swap_tasks(choices)
    for subject in subjects:
        about = {"subject": subject.simple}
        found = find(clip.frames, subject, experts, choices)
        other = experts.describe.alternative(clip.frames, subject)
        if isinstance(found, str):
            reason = found
        elif other is None:
            reason = "no alternative"
        else:
            reason = unsuited(clip.frames, found.mask, experts, choices, background)
        if reason:
            tray.drop(tasks, reason, about=about)
            continue
        painted = paint(clip, found, other, experts)
        made = find(painted, other, experts, choices)
        if isinstance(made, str):
            tray.drop(tasks, f"the new one is {made}", about=about)
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


def swap_tasks(choices: Choices) -> tuple[str, ...]:
    return ("swap", "reference_swap")[: 2 if choices.references else 1]
