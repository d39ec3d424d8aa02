"""Questions about scenes and instructions that teach a language model this world's words; its tokenizer's corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from string import Formatter

import numpy as np

from instructx_core.world import chinese
from instructx_core.world.language import caption, name_object, pick, with_article
from instructx_core.world.look_phrases import LOOK_PHRASES, LOOK_STATEMENTS
from instructx_core.world.scenes import Canvas, Scene, render, sample_scene
from instructx_core.world.triplets import MIN_SIDE, Draft, draft_triplet, make_rng
from instructx_core.world.variety import PLAIN, Variety
from instructx_core.world.vocabulary import (
    BACKGROUNDS,
    CLIP_GROUPS,
    COLOURS,
    CORNER_PHRASES,
    EDIT_KINDS,
    EVERY_GROUP,
    GRID,
    GROUPS,
    IMAGE_MEDIA,
    NOUNS,
    PHRASES,
    PLACE_PHRASES,
    PLACES,
    REFERENCE_NOUNS,
    SHAPES,
    STATEMENTS,
    SUBJECTS,
    SYNONYMS,
    VIDEO_MEDIA,
)

POINTING_CELLS = 8
QUESTIONS: dict[str, tuple[str, ...]] = {
    "describe": ("describe the {medium}.", "what is in the {medium}?", "what do you see?"),
    "where": ("where is the {name}?", "at what place is the {name}?"),
    "point": ("point to the {name}.",),
    "colour": ("what color is the {shape}?", "what is the color of the {shape}?"),
    "shape": ("what shape is {colour}?", "what is the shape of the {colour} {noun}?"),
    "at": ("what is at the {spot}?", "what do you see at the {spot}?"),
    "count": ("how many shapes?", "how many shapes are there?"),
    "background": ("what is the background?", "what color is the background?"),
    "plan": ("instruction: {instruction} what changes?",),
    "result": ("instruction: {instruction} describe the result.",),
}
NUMBERS = ("zero", "one", "two", "three", "four")
_STREAM = len(GROUPS)  # questions have their own random stream
_CORPUS_SAMPLES = 150
_RICH_SAMPLES = 40
_ENDS = ".!?。！？"  # noqa: RUF001


@dataclass(frozen=True)
class Question:
    """`frames` float32 [T, H, W, 3] in [0, 1] (T == 1 is an image), a question about them and its only right answer."""

    frames: np.ndarray
    question: str
    answer: str


# The words for a question's slots, and the answer; None if the scene has no unambiguous one.
_Asked = tuple[dict[str, str], str] | None


def _describe(rng: np.random.Generator, scene: Scene) -> _Asked:
    return {}, caption(scene)


def _where(rng: np.random.Generator, scene: Scene) -> _Asked:
    o = scene.objects[rng.integers(len(scene.objects))]
    return {"name": name_object(rng, o, (scene,))}, o.position()


def _point(rng: np.random.Generator, scene: Scene) -> _Asked:
    o = scene.objects[rng.integers(len(scene.objects))]
    row, column = (min(max(int(s * POINTING_CELLS), 0), POINTING_CELLS - 1) + 1 for s in o.start)
    return {"name": name_object(rng, o, (scene,))}, f"row {row} column {column}"


def _colour(rng: np.random.Generator, scene: Scene) -> _Asked:
    shape = SHAPES[rng.integers(len(SHAPES))]
    colours = [o.colour for o in scene.objects if o.shape == shape]
    return ({"shape": shape}, colours[0]) if len(colours) == 1 else None


def _shape(rng: np.random.Generator, scene: Scene) -> _Asked:
    colour = list(COLOURS)[rng.integers(len(COLOURS))]
    shapes = [o.shape for o in scene.objects if o.colour == colour]
    return ({"colour": colour, "noun": NOUNS[rng.integers(len(NOUNS))]}, shapes[0]) if len(shapes) == 1 else None


def _at(rng: np.random.Generator, scene: Scene) -> _Asked:
    spot = GRID[rng.integers(3)][rng.integers(3)]
    found = [with_article(f"{o.colour} {o.shape}") for o in scene.objects if o.position() == spot]
    if not found and rng.random() < 0.7:  # most places of most scenes are empty
        return None
    return {"spot": spot}, " and ".join(sorted(found)) or "nothing"


def _count(rng: np.random.Generator, scene: Scene) -> _Asked:
    return {}, NUMBERS[len(scene.objects)]


def _background(rng: np.random.Generator, scene: Scene) -> _Asked:
    return {}, scene.background


_ABOUT_SCENES: dict[str, Callable[[np.random.Generator, Scene], _Asked]] = {
    "describe": _describe,
    "where": _where,
    "point": _point,
    "colour": _colour,
    "shape": _shape,
    "at": _at,
    "count": _count,
    "background": _background,
}
# How often each is asked: mostly about understanding instructions, which editing depends on.
_SHARES = {
    "describe": 0.07,
    "where": 0.04,
    "point": 0.04,
    "colour": 0.05,
    "shape": 0.05,
    "at": 0.03,
    "count": 0.02,
    "background": 0.02,
    "plan": 0.6,
    "result": 0.08,
}


def _ask_about_instruction(
    rng: np.random.Generator, kind: str, canvas: Canvas, variety: Variety
) -> tuple[Draft, str, str]:
    groups = GROUPS if kind == "plan" else (*EDIT_KINDS, "hybrid")
    if variety != PLAIN and kind == "plan":
        groups = tuple(g for g in EVERY_GROUP if canvas.frames > 1 or g not in CLIP_GROUPS)
    draft = draft_triplet(rng, groups[rng.integers(len(groups))], canvas, variety)
    instruction = draft.instruction if draft.instruction[-1] in _ENDS else draft.instruction + "."
    question = pick(rng, QUESTIONS[kind]).format(instruction=instruction)
    return draft, question, draft.plan if kind == "plan" else caption(draft.target)


def _draft_question(rng: np.random.Generator, canvas: Canvas, variety: Variety = PLAIN) -> tuple[Scene, str, str]:
    """A scene with a question and its answer, not rendered yet."""
    kind = list(_SHARES)[int(rng.choice(len(_SHARES), p=list(_SHARES.values())))]
    if kind not in _ABOUT_SCENES:
        draft, question, answer = _ask_about_instruction(rng, kind, canvas, variety)
        return draft.source, question, answer
    asked = None
    while asked is None:
        scene = sample_scene(rng, canvas, variety=variety)
        asked = _ABOUT_SCENES[kind](rng, scene)
    slots, answer = asked
    medium = pick(rng, IMAGE_MEDIA if canvas.frames == 1 else VIDEO_MEDIA)
    question = pick(rng, QUESTIONS[kind]).format(medium=medium, **slots)
    return scene, question[0].upper() + question[1:] if rng.random() < 0.3 else question, answer


def sample_question(
    seed: int, *, frames: int = 1, height: int = 64, width: int = 64, variety: Variety = PLAIN
) -> Question:
    """Return the question that these arguments determine, always the same one.

    Answers are lower case: a caption; a word; "row 3 column 5" (counted from 1, of POINTING_CELLS each) for "point to
    ..."; a plan such as "recolor red circle at top left to blue", two joined by " then ", for "instruction: ... what
    changes?". Raises InputError for a seed or size out of range.
    """
    canvas = Canvas(frames, height, width)
    scene, question, answer = _draft_question(make_rng(seed, _STREAM, canvas), canvas, variety)
    return Question(render(scene), question, answer)


def _with_synonyms(words: tuple[str, ...]) -> list[str]:
    return [form for word in words for form in (word, *SYNONYMS.get(word, ()))]


def _slot_words(kind: str) -> dict[str, list[str]]:
    """All words for every template slot."""
    colours = _with_synonyms(tuple(BACKGROUNDS if kind == "background" else COLOURS))
    shapes = _with_synonyms(SHAPES)
    things = [f"{c} {s}" for c in COLOURS for s in shapes]
    spots = _with_synonyms(tuple(PLACES))
    media = list(dict.fromkeys(IMAGE_MEDIA + VIDEO_MEDIA))
    places = [
        form.format(spot=spot, medium=media[i % len(media)])
        for i, spot in enumerate(spots)
        for form in (PLACE_PHRASES if spot in _with_synonyms(("center",)) else PLACE_PHRASES + CORNER_PHRASES)
    ]
    return {
        "name": things + shapes + [f"{c} {n}" for c in COLOURS for n in NOUNS],
        "colour": colours,
        "a_colour": [with_article(c) for c in colours],
        "shape": shapes,
        "thing": [with_article(t) for t in shapes + things],
        "place": places,
        "spot": spots,
        "medium": media,
        "noun": list(REFERENCE_NOUNS),
        "subject": list(SUBJECTS),
    }


def _phrases_filled(phrases: dict[str, tuple[str, ...]], statements: dict[str, tuple[str, ...]]) -> Iterator[str]:
    """Every template with every word in each of its slots (each slot cycles through its own; not all combinations)."""
    for kind, templates in phrases.items():
        words = _slot_words(kind)
        for template in templates + statements[kind]:
            slots = {slot for _, slot, _, _ in Formatter().parse(template) if slot}
            for i in range(max([len(words[slot]) for slot in slots], default=1)):
                yield template.format(**{slot: words[slot][i % len(words[slot])] for slot in slots})


def corpus(variety: Variety = PLAIN) -> Iterator[str]:
    """Text to train a tokenizer on: every phrase with every word in each slot, in three letter cases; and samples."""
    yield from plain_texts()
    if variety != PLAIN:
        yield from rich_texts(variety)


def plain_texts() -> Iterator[str]:
    """The part of the corpus that all varieties share."""
    for i, text in enumerate(_phrases_filled(PHRASES, STATEMENTS)):
        yield text
        yield text[0].upper() + text[1:] + "."
        if i % 4 == 0:
            yield text.upper() + "!"
    for canvas in (Canvas(1, 64, 64), Canvas(17, 64, 64)):
        for seed in range(_CORPUS_SAMPLES):
            rng = make_rng(seed, _STREAM + 1, canvas)
            for group in GROUPS:
                draft = draft_triplet(rng, group, canvas)
                yield from (draft.instruction, caption(draft.source), caption(draft.target))
            for _ in range(len(_SHARES)):
                yield from _draft_question(rng, canvas)[1:]


def rich_texts(variety: Variety) -> Iterator[str]:
    """Phrases of looks, all Chinese phrases, and sampled texts of every group; backgrounds would add no other words."""
    yield from _phrases_filled(LOOK_PHRASES, LOOK_STATEMENTS)
    yield from chinese_phrases()
    yield from ("only a natural background", "only a blurred natural background") * _RICH_SAMPLES
    canvas, groundless = Canvas(2, MIN_SIDE, MIN_SIDE), replace(variety, natural=0.0)
    for seed in range(_RICH_SAMPLES):
        rng = make_rng(seed, _STREAM + 2, canvas)
        for group in EVERY_GROUP:
            draft = draft_triplet(rng, group, canvas, groundless)
            yield from (draft.instruction, draft.plan, caption(draft.target))


def chinese_phrases() -> Iterator[str]:
    """Every template with every word in each of its slots, for a tokenizer's corpus."""
    colours = [form for english in list(chinese.WORDS)[:13] for form in chinese.WORDS[english]]
    shapes = [form for english in list(chinese.WORDS)[13:17] for form in chinese.WORDS[english]]
    spots = [form for english in list(chinese.WORDS)[17:] for form in chinese.WORDS[english]]
    things = [colour + shape for colour in colours for shape in shapes]
    filling = {
        "name": things + [colour + "的" + noun for colour in colours for noun in chinese.NOUNS],
        "colour": colours,
        "thing": things + shapes,
        "spot": spots,
        "medium": chinese.IMAGE_MEDIA + chinese.VIDEO_MEDIA,
        "subject": chinese.SUBJECTS,
    }
    for templates in chinese.PHRASES.values():
        for template in templates:
            slots = {slot for _, slot, _, _ in Formatter().parse(template) if slot}
            for i in range(max([min(len(filling[slot]), 40) for slot in slots], default=1)):
                yield template.format(**{slot: filling[slot][7 * i % len(filling[slot])] for slot in slots})
    yield from (form.format(text=chinese.PHRASES["night"][0]) for form in chinese.POLITE)
