"""Words about scenes: object names, instructions in several wordings, captions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from .look_phrases import LOOK_CAPTIONS, LOOK_PHRASES, LOOK_STATEMENTS
from .scenes import Canvas, Object, Scene
from .vocabulary import (
    CORNER_PHRASES,
    EFFECT_CAPTIONS,
    GRID,
    IMAGE_MEDIA,
    NOUNS,
    PHRASES,
    PLACE_PHRASES,
    POLITE,
    REFERENCE_NOUNS,
    STATEMENTS,
    SUBJECTS,
    SYNONYMS,
    VIDEO_MEDIA,
)

SMALL, LARGE = 0.145, 0.17  # radii below and above which a caption states the size; an added object is neither
_SYNONYM_SHARE = 0.07
_PHRASES = PHRASES | LOOK_PHRASES
_STATEMENTS = STATEMENTS | LOOK_STATEMENTS
_EFFECT_CAPTIONS = EFFECT_CAPTIONS | LOOK_CAPTIONS


def pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    """One of `options`, earlier ones more often."""
    return options[int(len(options) * rng.random() ** 1.6)]


def with_article(words: str) -> str:
    """`words` with "a" or "an" in front."""
    return ("an " if words[:1] in set("aeiou") else "a ") + words


def _word(rng: np.random.Generator, word: str) -> str:
    """The word or, sometimes, a synonym."""
    if word in SYNONYMS and rng.random() < _SYNONYM_SHARE:
        return pick(rng, SYNONYMS[word])
    return word


def draw_form(rng: np.random.Generator, target: Object, scenes: Iterable[Scene]) -> str:
    """Choose how to name `target` unambiguously in all of `scenes`: by "shape", "colour" or "both"."""
    others = {o for scene in scenes for o in scene.objects} - {target}
    forms = ["both", "both"]
    if all(o.shape != target.shape for o in others):
        forms.append("shape")
    if all(o.colour != target.colour for o in others):
        forms.append("colour")
    return forms[rng.integers(len(forms))]


def name_object(rng: np.random.Generator, target: Object, scenes: Iterable[Scene]) -> str:
    """A name ("red circle", "circle", "red one") that fits `target` but no other object in any of `scenes`."""
    form = draw_form(rng, target, scenes)
    if form == "shape":
        return _word(rng, target.shape)
    if form == "colour":
        return f"{_word(rng, target.colour)} {pick(rng, NOUNS)}"
    return f"{_word(rng, target.colour)} {_word(rng, target.shape)}"


def _place(rng: np.random.Generator, spot: str, medium: str) -> str:
    corner = spot != "center" and rng.random() < 0.15
    return pick(rng, CORNER_PHRASES if corner else PLACE_PHRASES).format(spot=_word(rng, spot), medium=medium)


def phrase(
    rng: np.random.Generator,
    kind: str,
    canvas: Canvas,
    *,
    statement: bool = False,
    name: str = "",
    colour: str = "",
    shape: str = "",
    thing: str = "",
    spot: str = "",
) -> str:
    """One wording of an edit, an imperative or a `statement`; words without a slot in its template are left out."""
    template = pick(rng, (_STATEMENTS if statement else _PHRASES)[kind])
    medium = pick(rng, IMAGE_MEDIA if canvas.frames == 1 else VIDEO_MEDIA)
    colour = _word(rng, colour)
    return template.format(
        name=name,
        colour=colour,
        a_colour=with_article(colour),
        shape=shape,
        thing=with_article(" ".join(_word(rng, word) for word in thing.split())),
        place=_place(rng, spot, medium),
        spot=_word(rng, spot),
        medium=medium,
        noun=pick(rng, REFERENCE_NOUNS),
        subject=pick(rng, SUBJECTS),
    )


def style(rng: np.random.Generator, text: str, *, polite: bool) -> str:
    """Vary letter case and punctuation as people do; `polite` allows wordings such as "can you ...?"."""
    if polite and rng.random() < 0.12:
        text = pick(rng, POLITE).format(text=text)
    if not text.endswith("?"):
        text += ("", ".", "!")[int(np.searchsorted((0.55, 0.92), rng.random(), side="right"))]
    case = rng.random()
    if case < 0.06:
        return text.upper()
    if case < 0.4:
        return text[0].upper() + text[1:]
    return text.lower() if case < 0.5 else text


def _motion(o: Object, canvas: Canvas) -> str:
    down, right = (v * (canvas.frames - 1) for v in o.velocity)
    if max(abs(down), abs(right)) < 0.1:
        return ""
    if abs(right) >= abs(down):
        return " moving right" if right > 0 else " moving left"
    return " moving down" if down > 0 else " moving up"


def describe_object(o: Object, canvas: Canvas) -> str:
    """E.g. "a small red circle at the top left moving right"; the position is that in the first frame."""
    size = "small " if o.radius < SMALL else "large " if o.radius > LARGE else ""
    return f"{with_article(size + o.colour)} {o.shape} at the {o.position()}{_motion(o, canvas)}"


def caption(scene: Scene) -> str:
    """Describe the scene in one deterministic sentence, its objects in reading order of their coarse positions."""
    if scene.masks is not None:
        return f"the mask of {describe_object(scene.masks, scene.canvas)}"
    cells = [cell for row in GRID for cell in row]
    ordered = sorted(scene.objects, key=lambda o: (cells.index(o.position()), o.start[1], o.start[0]))
    parts = [describe_object(o, scene.canvas) for o in ordered]
    listed = " and ".join(parts) if len(parts) < 3 else ", ".join(parts[:-1]) + " and " + parts[-1]
    background = with_article(f"{'blurred ' * scene.blurred}{scene.background} background")
    text = f"{listed} on {background}" if parts else f"only {background}"
    return ", ".join([_EFFECT_CAPTIONS[e] for e in scene.effects] + [text])
