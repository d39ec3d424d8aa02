"""Place a template's notes: in the free space below the columns, far left, where the minimap does not cover them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, combinations_with_replacement, product
from math import ceil
from typing import TYPE_CHECKING

from .description import GAP, TITLE_BAR

if TYPE_CHECKING:
    from collections.abc import Sequence

NARROWEST, WIDEST = 280, 720  # pixels
WINDOW = 0.52  # a height up to this share of the width does not make a graph open at a smaller scale
MAP = 70  # pixels of the last column's width that the front end's minimap covers
LETTER, LINE, HEADING, BETWEEN, EDGE = 6.4, 20, 52, 10, 34  # pixels of a note's text, in the canvas with larger text


@dataclass(frozen=True)
class Place:
    """A note's position and size in pixels of the graph."""

    left: int
    top: int
    width: int
    height: int


def place_notes(texts: Sequence[str], widths: Sequence[int], bottoms: Sequence[int]) -> list[Place]:
    """Place each text below columns of these widths, whose nodes end at `bottoms`: as high, then as far left as
    possible."""
    lefts = [0, *accumulate(width + GAP for width in widths)]
    room = WINDOW * lefts[-1] - TITLE_BAR
    pairs = combinations_with_replacement(range(len(widths)), 2)
    spans = [span for span in pairs if NARROWEST <= _width(lefts, *span) <= WIDEST]

    def worth(places: list[Place]) -> tuple[float, list[int], list[int]]:
        lowest = max(place.top + place.height for place in places)
        return max(lowest, room), [place.left for place in places], [place.width for place in places]

    ways = product(spans, repeat=len(texts))
    return min((_below(texts, lefts, bottoms, chosen) for chosen in ways), key=worth)


def height_of(text: str, width: int) -> int:
    """Height in pixels of a note of this width, without its title bar; the first paragraph is a heading."""
    rows = [ceil(_letters(part) * LETTER / (width - EDGE)) for part in text.split("\n\n")[1:]]
    return HEADING + sum(LINE * count + BETWEEN for count in rows)


def _below(
    texts: Sequence[str], lefts: Sequence[int], bottoms: Sequence[int], spans: Sequence[tuple[int, int]]
) -> list[Place]:
    """Place each text below the columns of its span, and below the texts before it."""
    ends, found = list(bottoms), []
    for text, (first, last) in zip(texts, spans, strict=True):
        width = _width(lefts, first, last)
        place = Place(lefts[first], max(ends[first : last + 1]) + GAP + TITLE_BAR, width, height_of(text, width))
        ends[first : last + 1] = [place.top + place.height] * (last + 1 - first)
        found.append(place)
    return found


def _width(lefts: Sequence[int], first: int, last: int) -> int:
    """Width from one column to another, without the part that the minimap covers."""
    return lefts[last + 1] - GAP - lefts[first] - (MAP if last + 2 == len(lefts) else 0)


def _letters(text: str) -> int:
    """Length in letters, where a Chinese character counts as two."""
    return sum(1 if letter.isascii() else 2 for letter in text)
