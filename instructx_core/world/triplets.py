"""Editing triplets (source, instruction, target) with exact ground truth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError
from .arrivals import enter_late
from .edits import Step, apply_edit
from .language import caption, pick
from .languages import CHINESE, ENGLISH, Language
from .outside import outside_sentence
from .scenes import Canvas, Object, Scene, render, sample_scene
from .variety import PLAIN, Variety
from .vocabulary import (
    CLIP_GROUPS,
    COLOURS,
    EDIT_KINDS,
    EVERY_GROUP,
    GROUPS,
    LOCAL_KINDS,
    PIXEL_KINDS,
    PLACES,
    SHAPES,
)

HELD_OUT_SEED = 2**40
"""Training seeds are below this, evaluation seeds at and above it."""
MIN_SIDE = 16
_LATER_STREAMS = 20
_CHANGES = ("recolor", "remove", "replace")


@dataclass(frozen=True)
class Triplet:
    """`source` and `target` float32 [T, H, W, 3] in [0, 1] (T == 1: an image), `references` [S, S, 3] each.

    `edits` names the edits in the order applied; a reference group is listed under its own name.
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
    """A triplet before rendering."""

    source: Scene
    instruction: str
    target: Scene
    references: tuple[Scene, ...]
    edits: tuple[str, ...]
    plan: str


def stream_of(group: str) -> int:
    """The index of a group's own random stream; those of the first ten groups never change."""
    return GROUPS.index(group) if group in GROUPS else _LATER_STREAMS + EVERY_GROUP.index(group)


def _hybrid_kinds(rng: np.random.Generator, variety: Variety) -> tuple[str, str]:
    """Two edits with one sensible reading: at most one acts on all pixels, and that one comes last."""
    kinds = EDIT_KINDS if variety == PLAIN else (*EDIT_KINDS, "tone", "style", "weather")
    while True:
        first, second = (kinds[i] for i in rng.permutation(len(kinds))[:2])
        if first not in PIXEL_KINDS:
            return first, second
        if second not in PIXEL_KINDS:
            return second, first


def _reference_scene(rng: np.random.Generator, canvas: Canvas, subject: Object, variety: Variety) -> Scene:
    """Only the subject, large and near the middle of a square image with its own background."""
    side = Canvas(1, canvas.short, canvas.short)
    ground = sample_scene(rng, side, variety=variety)
    y, x = rng.uniform(0.45, 0.55, 2).tolist()
    shown = Object(subject.colour, subject.shape, float(rng.uniform(0.2, 0.35)), (y, x), turn=subject.turn)
    return Scene(side, (shown,), ground.background, ground.relief, ground.edge)


def _attempt(
    rng: np.random.Generator, group: str, canvas: Canvas, variety: Variety, language: Language, kinds: tuple[str, ...]
) -> tuple[Scene, list[Step]] | None:
    adds = any(kind in ("add", "reference_add") for kind in kinds)
    free = list(PLACES)[rng.integers(len(PLACES))] if adds else None
    needed = sum(kind in LOCAL_KINDS and kind != "add" for kind in kinds)
    whole = variety.natural and group in ("grayscale", "invert", "tone", "style", "weather", "outside")
    source = sample_scene(rng, canvas, at_least=0 if whole else max(needed, 1), free=free, variety=variety)
    only = None
    if group == "late":
        entered = enter_late(rng, source)
        if entered is None:
            return None
        source, only = entered
    statement = len(kinds) == 1 and rng.random() < 0.12  # statements read badly when joined
    scene, steps = source, []
    for kind in kinds:
        step = apply_edit(rng, kind, scene, source, statement=statement, language=language, only=only)
        if step is None:
            return None
        steps.append(step)
        scene = step.scene
    return source, steps


def _instruction(rng: np.random.Generator, steps: list[Step], language: Language) -> str:
    if len(steps) == 1:
        return language.style(rng, steps[0].request, polite=not steps[0].statement)
    joined = pick(rng, language.joiners).format(first=steps[0].request, second=steps[1].request)
    return language.style(rng, joined, polite=False)


def _about_nobody(rng: np.random.Generator, scene: Scene, language: Language) -> str:
    """A request about an object whose colour and shape are both absent from the scene."""
    colours = [c for c in COLOURS if all(o.colour != c for o in scene.objects)]
    shapes = [s for s in SHAPES if all(o.shape != s for o in scene.objects)]
    colour, shape = (options[rng.integers(len(options))] for options in (colours, shapes))
    absent = Object(colour, shape, 0.15, (0.5, 0.5))
    kind = _CHANGES[rng.integers(len(_CHANGES))]
    name = language.name_object(rng, absent, (scene, replace(scene, objects=(absent,))))
    request = language.phrase(
        rng, kind, scene.canvas, name=name, colour=list(COLOURS)[rng.integers(len(COLOURS))], shape=shape, thing=shape
    )
    return language.style(rng, request, polite=True)


def _kinds(rng: np.random.Generator, group: str, variety: Variety) -> tuple[str, ...]:
    if group == "hybrid":
        return _hybrid_kinds(rng, variety)
    if group == "late":
        return (_CHANGES[rng.integers(len(_CHANGES))],)
    return () if group == "outside" else (group,)


def draft_triplet(
    rng: np.random.Generator, group: str, canvas: Canvas, variety: Variety = PLAIN, held_out: bool = False
) -> Draft:
    """Choose all of a triplet of `group` except its pixels; `held_out` draws words that training never sees."""
    language = CHINESE if variety.chinese and rng.random() < variety.chinese else ENGLISH
    kinds = _kinds(rng, group, variety)
    found = None
    while found is None:  # resample until the edit fits the scene
        found = _attempt(rng, group, canvas, variety, language, kinds)
    source, steps = found
    if not steps:
        sentence = _about_nobody(rng, source, language) if rng.random() < 0.15 else outside_sentence(rng, held_out)
        return Draft(source, sentence, source, (), ("outside",), "nothing")
    references = tuple(_reference_scene(rng, canvas, s.subject, variety) for s in steps if s.subject is not None)
    plan = " then ".join(step.plan for step in steps)
    return Draft(source, _instruction(rng, steps, language), steps[-1].scene, references, kinds, plan)


def make_rng(seed: int, stream: int, canvas: Canvas) -> np.random.Generator:
    """The random generator of one sample; each seed, stream (a group or another use) and size has its own.

    Raises InputError for a negative seed, no frames, or sides below MIN_SIDE.
    """
    if seed < 0:
        raise InputError(f"seed is {seed}; give a whole number of 0 or more")
    if canvas.frames < 1:
        raise InputError(f"frames is {canvas.frames}; give 1 for an image, or more for a video")
    if canvas.short < MIN_SIDE:
        raise InputError(f"the size is {canvas.height} x {canvas.width} pixels; give sides of at least {MIN_SIDE}")
    return np.random.default_rng([seed, stream, canvas.frames, canvas.height, canvas.width])


def sample_triplet(
    seed: int, group: str, *, frames: int = 1, height: int = 64, width: int = 64, variety: Variety = PLAIN
) -> Triplet:
    """Return the triplet that these arguments determine, always the same one.

    `group` is one of EVERY_GROUP. Source and target are float32 [frames, height, width, 3] in [0, 1]; the reference
    groups have one square reference image whose side is the frame's shorter one. Raises InputError for an unknown
    group, a negative seed, a size out of range, or an image in a group that is for clips only.
    """
    if group not in EVERY_GROUP:
        raise InputError(f"group is {group!r}; give one of {', '.join(EVERY_GROUP)}")
    if frames == 1 and group in CLIP_GROUPS:
        raise InputError(f"group is {group!r}, which needs a video; give frames of 2 or more")
    draft = _draft(seed, group, Canvas(frames, height, width), variety)
    return Triplet(
        source=render(draft.source),
        instruction=draft.instruction,
        target=render(draft.target),
        references=tuple(render(scene)[0] for scene in draft.references),
        edits=draft.edits,
        source_caption=caption(draft.source),
        target_caption=caption(draft.target),
    )


@dataclass(frozen=True)
class Subject:
    """The only object in a triplet's target that its source does not have.

    `mask`, bool [T, H, W], is true where it covers at least half of a pixel; `behind`, float32 [T, H, W, 3], is the
    target without it.
    """

    mask: np.ndarray
    behind: np.ndarray


def sample_subject(
    seed: int, group: str, *, frames: int = 1, height: int = 64, width: int = 64, variety: Variety = PLAIN
) -> Subject | None:
    """The new object in `sample_triplet`'s result for the same arguments, as pixels; None if there is none, several, or
    an effect covers it."""
    draft = _draft(seed, group, Canvas(frames, height, width), variety)
    new = _new_object(draft)
    if new is None or draft.target.effects:
        return None
    rest = tuple(o for o in draft.target.objects if o is not new)
    mask = render(replace(draft.target, masks=new))[..., 0] >= 0.5
    return Subject(mask, render(replace(draft.target, objects=rest)))


def sample_new_object(
    seed: int, group: str, *, frames: int = 1, height: int = 64, width: int = 64, variety: Variety = PLAIN
) -> Object | None:
    """The new or changed object in `sample_triplet`'s result for the same arguments; None if there is none or several.
    Nothing is rendered."""
    return _new_object(_draft(seed, group, Canvas(frames, height, width), variety))


def _draft(seed: int, group: str, canvas: Canvas, variety: Variety) -> Draft:
    return draft_triplet(make_rng(seed, stream_of(group), canvas), group, canvas, variety, seed >= HELD_OUT_SEED)


def _new_object(draft: Draft) -> Object | None:
    new = [o for o in draft.target.objects if o not in draft.source.objects]
    return new[0] if len(new) == 1 else None
