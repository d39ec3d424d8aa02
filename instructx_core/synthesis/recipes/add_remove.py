"""Erase an object: detect, track, inpaint. The pair is a removal, reversed an addition, with a portrait a quadruple."""

from __future__ import annotations

from ..candidate import Drop, Tray
from ..clips import Clip
from ..experts import Experts
from .base import Choices, Recipe, find


def make(clip: Clip, experts: Experts, choices: Choices, tray: Tray) -> None:
    tasks = ("remove", "add", "reference_add")[: 3 if choices.references else 2]
    subjects = experts.describe.subjects(clip.frames, choices.subjects)
    if not subjects:
        tray.drop(tasks, Drop("no subject", "describe"))
    for subject in subjects:
        found = find(clip.frames, subject, experts, choices)
        if isinstance(found, Drop):
            tray.drop(tasks, found, about={"subject": subject.simple})
            continue
        erased = experts.erase.fill(clip.frames, found.mask, "")
        for task in tasks:
            before, after = (clip.frames, erased) if task == "remove" else (erased, clip.frames)
            portrait = task == "reference_add"
            tray.add(
                task,
                before,
                target=after,
                instructions=(experts.describe.instruct(task, before, after, subject, None),),
                reference=experts.redraw.portray(clip.frames[0], found.mask[0], subject.simple) if portrait else None,
                mask=found.mask,
                scores=found.scores,
                about={"subject": subject.simple},
            )


ADD_REMOVE = Recipe("add_remove", ("describe", "judge", "detect", "segment", "erase"), make, for_references=("redraw",))
