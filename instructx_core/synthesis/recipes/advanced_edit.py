"""Pairs of pictures, made in the steps of AdvancedEdit: caption and objects (1), their masks (2), removal, addition,
replacement (3), simple and advanced instructions (4); the filter (5) is shared by all recipes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...coco_masks import encode_mask
from ..candidate import Drop, Tray
from ..clips import Clip
from ..experts import Experts, Subject
from .base import Choices, Found, Recipe, find

TASKS = ("remove", "add", "swap")


def make(clip: Clip, experts: Experts, choices: Choices, tray: Tray) -> None:
    picture = clip.frames[:1]
    caption = experts.describe.caption(picture)
    subjects = experts.describe.subjects(picture, choices.subjects)
    if not subjects:
        tray.drop(TASKS, Drop("no subject", "describe"))
    for subject in subjects:
        found = find(picture, subject, experts, choices)
        if isinstance(found, Drop):
            tray.drop(TASKS, found, about={"subject": subject.simple})
            continue
        erased = experts.erase.fill(picture, found.mask, "")
        _add(tray, experts, "remove", picture, erased, found, subject, None, caption)
        _add(tray, experts, "add", erased, picture, found, subject, None, caption)
        new = experts.describe.alternative(picture, subject)
        if new is None:
            tray.drop(("swap",), Drop("no alternative", "describe"), about={"subject": subject.simple})
            continue
        painted = experts.erase.fill(picture, found.mask, new.simple)
        made = find(painted, new, experts, choices)
        if isinstance(made, Drop):
            tray.drop(("swap",), Drop(f"the new one is {made.reason}", made.stage), about={"subject": subject.simple})
            continue
        both = Found(subject, found.mask | made.mask, found.scores)
        _add(tray, experts, "swap", picture, painted, both, subject, new, caption)


def _add(
    tray: Tray,
    experts: Experts,
    task: Any,
    before: Tensor,
    after: Tensor,
    found: Found,
    old: Subject,
    new: Subject | None,
    caption: str,
) -> None:
    plain = experts.describe.instruct(task, before, after, old, new)
    seen = after if task == "add" else before
    words = experts.describe.recaption(seen, plain, old, new)
    tray.add(
        task,
        before,
        target=after,
        instructions=tuple(dict.fromkeys((plain, *words.all))),
        mask=found.mask,
        caption=caption if task == "add" else "",  # of the target
        scores=found.scores,
        about={
            "subject": old.simple,
            "task_type": {"swap": "replace"}.get(task, task),
            "class_origin": old.category,
            "class_target": new.category if new else "",
            "detailed_caption_origin": old.detailed,
            "detailed_caption_target": new.detailed if new else "",
            "img_caption": caption,
            "bbox": _box(found.mask[0]),
            "segmentation": encode_mask(found.mask[0]),
        },
    )


def _box(mask: Tensor) -> list[int]:
    """[left, top, right, bottom] of a mask, right and bottom exclusive."""
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


ADVANCED_EDIT = Recipe("advanced_edit", ("describe", "judge", "detect", "segment", "erase"), make)
