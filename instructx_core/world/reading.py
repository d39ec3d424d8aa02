"""Parse the world's sentences: which edit of a scene they ask for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from .look_phrases import LOOK_PHRASES, LOOK_STATEMENTS
from .scenes import Object, Scene
from .vocabulary import (
    COLOURS,
    CORNER_PHRASES,
    GRID,
    IMAGE_MEDIA,
    LOCAL_KINDS,
    NOUNS,
    PHRASES,
    PLACE_PHRASES,
    PLACES,
    POLITE,
    REFERENCE_NOUNS,
    SHAPES,
    STATEMENTS,
    STYLES,
    SUBJECTS,
    SYNONYMS,
    TONES,
    VIDEO_MEDIA,
)

KINDS = (*LOCAL_KINDS, "reference_swap", "reference_add")
LOOKS = (*TONES, *STYLES)
SPOTS = tuple(dict.fromkeys([*PLACES, *(cell for row in GRID for cell in row)]))


@dataclass(frozen=True)
class Request:
    """What a sentence asks for; `old` is the object of the scene that it names.

    Attributes:
        kind: one of KINDS, or "look".
        colour, shape, spot: of the new object; "" if the sentence does not say.
        look: one of LOOKS.
    """

    kind: str
    old: Object | None = None
    colour: str = ""
    shape: str = ""
    spot: str = ""
    look: str = ""


def read_request(sentence: str, scene: Scene) -> Request | None:
    """The edit of `scene` that an English sentence asks for; None if it asks for none, or its object is ambiguous."""
    text = _bare(sentence)
    for pattern in _polite():
        if found := pattern.fullmatch(text):
            text = found["text"]
    for kind, pattern in _patterns():
        if (found := pattern.fullmatch(text)) and (request := _request(kind, found.groupdict(), scene)):
            return request
    return None


def asked_scene(request: Request, scene: Scene, subject: Object | None = None) -> Scene | None:
    """The scene after a request; None for an addition, whose exact position is unknown, or a swap without `subject`.

    Args:
        subject: the object shown in the reference.
    """
    if request.kind == "look":
        if request.look == STYLES[-1]:
            return replace(scene, blurred=True)
        return replace(scene, effects=(*scene.effects, request.look))
    if request.old is None or (request.kind == "reference_swap" and subject is None):
        return None
    if request.kind == "remove":
        return replace(scene, objects=tuple(o for o in scene.objects if o is not request.old))
    shown = subject or request.old
    if request.kind == "reference_swap":
        new = replace(request.old, colour=shown.colour, shape=shown.shape, tint=(0.0, 0.0, 0.0))
    else:
        new = replace(
            request.old, colour=request.colour or request.old.colour, shape=request.shape or request.old.shape
        )
    return replace(scene, objects=tuple(new if o is request.old else o for o in scene.objects))


def _request(kind: str, slots: dict[str, str | None], scene: Scene) -> Request | None:
    if kind in LOOKS:
        return Request("look", look=kind)
    old = None
    if slots.get("name") is not None:
        colour, shape = _words(slots["name"] or "")
        named = [o for o in scene.objects if colour in ("", o.colour) and shape in ("", o.shape)]
        if len(named) != 1:
            return None
        (old,) = named
    colour, shape = _words(slots.get("thing") or slots.get("colour") or "")
    return Request(kind, old, colour, shape, _plain(slots.get("spot") or ""))


def _words(phrase: str) -> tuple[str, str]:
    """(colour, shape) of a phrase, each "" if not mentioned."""
    said = [_plain(word) for word in phrase.split()]
    return next((w for w in said if w in COLOURS), ""), next((w for w in said if w in SHAPES), "")


def _plain(word: str) -> str:
    """The word that a synonym stands for."""
    return next((plain for plain, others in SYNONYMS.items() if word in others), word)


def _bare(sentence: str) -> str:
    return sentence.strip().rstrip(".!? ").lower()


@cache
def _polite() -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(re.escape(_bare(p)).replace(r"\{text\}", "(?P<text>.+)")) for p in reversed(POLITE))


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((kind, re.compile(pattern)) for kind, pattern in _spelled())


def _spelled() -> Iterator[tuple[str, str]]:
    colour, shape = _either(COLOURS), _either(SHAPES)
    medium = "(?:" + "|".join(dict.fromkeys((*IMAGE_MEDIA, *VIDEO_MEDIA))) + ")"
    spot = f"(?P<spot>{_either(SPOTS)})"
    slots = {
        "name": f"(?P<name>(?:{colour} )?(?:{shape}|{'|'.join(NOUNS)}))",
        "thing": f"an? (?P<thing>(?:{colour} )?{shape})",
        "colour": f"(?P<colour>{colour})",
        "a_colour": f"an? (?P<colour>{colour})",
        "shape": shape,
        "medium": medium,
        "spot": spot,
        "noun": "(?:" + "|".join(REFERENCE_NOUNS) + ")",
        "subject": "(?:" + "|".join(SUBJECTS) + ")",
    }
    places = [p.replace("{spot}", spot).replace("{medium}", medium) for p in (*PLACE_PHRASES, *CORNER_PHRASES)]
    for kind in (*KINDS, *LOOKS):
        known = (PHRASES | LOOK_PHRASES)[kind] + (STATEMENTS | LOOK_STATEMENTS).get(kind, ())
        for template in known:
            for place in places if "{place}" in template else [""]:
                pattern = re.escape(_bare(template)).replace(r"\{place\}", place)
                for name, slot in slots.items():
                    pattern = pattern.replace(rf"\{{{name}\}}", slot)
                yield kind, pattern


def _either(words: object) -> str:
    """A pattern for any of some words or their synonyms, longest first."""
    every = [one for word in words for one in (word, *SYNONYMS.get(word, ()))]  # type: ignore[attr-defined]
    return "(?:" + "|".join(sorted(map(re.escape, every), key=len, reverse=True)) + ")"
