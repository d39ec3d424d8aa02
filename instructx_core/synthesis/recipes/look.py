"""Change colour, style or tone: redraw the first frame, then animate it like the clip."""

from __future__ import annotations

from ..candidate import Drop, Tray
from ..clips import Clip
from ..experts import Experts
from .base import Choices, Recipe, find


def make(clip: Clip, experts: Experts, choices: Choices, tray: Tray) -> None:
    for look in choices.looks:
        restyle = experts.describe.restyle(clip.frames, look)
        if restyle is None:
            tray.drop((look,), Drop("no change of look", "describe"))
            continue
        found = restyle.subject and find(clip.frames, restyle.subject, experts, choices)
        if isinstance(found, Drop):
            tray.drop((look,), found)
            continue
        first = experts.redraw.edit(clip.frames[0], restyle.sentence)
        after = experts.animate.animate(first, clip.frames, None) if len(clip.frames) > 1 else first[None]
        tray.add(
            look,
            clip.frames,
            target=after,
            instructions=(restyle.sentence,),
            mask=found.mask if found else None,
            scores=found.scores if found else {},
        )


LOOK = Recipe("look", ("describe", "judge", "detect", "segment", "redraw", "animate"), make)
