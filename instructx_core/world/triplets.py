"""Editing triplets (source, instruction, target) with exact ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .edits import Step, apply_edit
from .language import caption, pick, style
from .scenes import Canvas, Object, Scene, render, sample_scene
from .vocabulary import EDIT_KINDS, GROUPS, JOINERS, LOCAL_KINDS, PIXEL_KINDS, PLACES

HELD_OUT_SEED = 2**40
"""Training seeds are below this, evaluation seeds at and above it."""
MIN_SIDE = 16


@dataclass(frozen=True)
class Triplet:
    """`source` and `target` float32 [T, H, W, 3] in [0, 1] (T == 1: an image), `references` [S, S, 3] each.

    `edits` are the names of the edits applied in order; a reference group has its own name there.
    """

    source: np.ndarray
    instruction: str
    target: np.ndarray
    references: tuple[np.ndarray, ...]
    edits: tuple[str, ...]
    source_caption: str
    target_caption: str


@dataclass(frozen=True)
class Draft:
    """A triplet before it is drawn."""

    source: Scene
    instruction: str
    target: Scene
    references: tuple[Scene, ...]
    edits: tuple[str, ...]
    plan: str


def _hybrid_kinds(rng: np.random.Generator) -> tuple[str, str]:
    """Two edits with one sensible reading: at most one acts on all pixels, and that one comes last."""
    while True:
        first, second = (EDIT_KINDS[i] for i in rng.permutation(len(EDIT_KINDS))[:2])
        if first not in PIXEL_KINDS:
            return first, second
        if second not in PIXEL_KINDS:
            return second, first


def _reference_scene(rng: np.random.Generator, canvas: Canvas, subject: Object) -> Scene:
    """The subject alone, large and near the middle of a square image with a ground of its own."""
    side = Canvas(1, canvas.short, canvas.short)
    ground = sample_scene(rng, side)
    y, x = rng.uniform(0.45, 0.55, 2).tolist()
    shown = Object(subject.colour, subject.shape, float(rng.uniform(0.2, 0.35)), (y, x))
    return Scene(side, (shown,), ground.background, ground.relief, ground.edge)


def _attempt(rng: np.random.Generator, kinds: tuple[str, ...], canvas: Canvas) -> tuple[Scene, list[Step]] | None:
    adds = any(kind in ("add", "reference_add") for kind in kinds)
    free = list(PLACES)[rng.integers(len(PLACES))] if adds else None
    needed = sum(kind in LOCAL_KINDS and kind != "add" for kind in kinds)
    source = sample_scene(rng, canvas, at_least=max(needed, 1), free=free)
    statement = len(kinds) == 1 and rng.random() < 0.12  # statements read badly when joined
    scene, steps = source, []
    for kind in kinds:
        step = apply_edit(rng, kind, scene, source, statement=statement)
        if step is None:
            return None
        steps.append(step)
        scene = step.scene
    return source, steps


def _instruction(rng: np.random.Generator, steps: list[Step]) -> str:
    if len(steps) == 1:
        return style(rng, steps[0].request, polite=not steps[0].statement)
    return style(rng, pick(rng, JOINERS).format(first=steps[0].request, second=steps[1].request), polite=False)


def draft_triplet(rng: np.random.Generator, group: str, canvas: Canvas) -> Draft:
    """Choose everything about a triplet of `group` but its pixels."""
    kinds = _hybrid_kinds(rng) if group == "hybrid" else (group,)
    found = None
    while found is None:  # a scene where the edit has no room is drawn anew
        found = _attempt(rng, kinds, canvas)
    source, steps = found
    references = tuple(_reference_scene(rng, canvas, s.subject) for s in steps if s.subject is not None)
    plan = " then ".join(step.plan for step in steps)
    return Draft(source, _instruction(rng, steps), steps[-1].scene, references, kinds, plan)


def make_rng(seed: int, stream: int, canvas: Canvas) -> np.random.Generator:
    """The generator of one sample: each seed, stream (a group or another use) and size has its own.

    Raises InputError for a negative seed, no frames, or sides below MIN_SIDE.
    """
    if seed < 0:
        raise InputError(f"seed is {seed}; give a whole number of 0 or more")
    if canvas.frames < 1:
        raise InputError(f"frames is {canvas.frames}; give 1 for an image or more for a video")
    if canvas.short < MIN_SIDE:
        raise InputError(f"the size is {canvas.height} x {canvas.width} pixels; give sides of at least {MIN_SIDE}")
    return np.random.default_rng([seed, stream, canvas.frames, canvas.height, canvas.width])


def sample_triplet(seed: int, group: str, *, frames: int = 1, height: int = 64, width: int = 64) -> Triplet:
    """Draw the triplet that these arguments mean, always the same one.

    `group` is one of GROUPS. Source and target come as float32 [frames, height, width, 3] in [0, 1]; the reference
    groups carry one square reference image whose side is the frame's shorter one. Raises InputError for an unknown
    group, a negative seed or a size out of range.
    """
    if group not in GROUPS:
        raise InputError(f"group is {group!r}; give one of {', '.join(GROUPS)}")
    canvas = Canvas(frames, height, width)
    draft = draft_triplet(make_rng(seed, GROUPS.index(group), canvas), group, canvas)
    return Triplet(
        source=render(draft.source),
        instruction=draft.instruction,
        target=render(draft.target),
        references=tuple(render(scene)[0] for scene in draft.references),
        edits=draft.edits,
        source_caption=caption(draft.source),
        target_caption=caption(draft.target),
    )
