"""Where a template's notes stand: in the free room below the columns, far left, where no map lies over the graph."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from math import ceil
from typing import TYPE_CHECKING

from .description import GAP, TITLE_BAR

if TYPE_CHECKING:
    from collections.abc import Sequence

NARROWEST, WIDEST = 280, 720  # pixels
WINDOW = 0.52  # a graph opens no smaller for a height up to this share of its width
LETTER, LINE, HEADING, BETWEEN, EDGE = 6.4, 20, 52, 10, 34  # pixels of a note's text in the larger of both canvases


@dataclass(frozen=True)
class Place:
    """In pixels of the graph."""

    left: int
    top: int
    width: int
    height: int


def place_notes(texts: Sequence[str], widths: Sequence[int], bottoms: Sequence[int]) -> list[Place]:
    """A place for each text below columns of these widths, whose nodes end at `bottoms`."""
    lefts = [0, *accumulate(width + GAP for width in widths)]
    room = WINDOW * lefts[-1] - TITLE_BAR
    ends, found = list(bottoms), []
    for text in texts:
        spans = [
            (first, last)
            for first in range(len(widths))
            for last in range(first, len(widths))
            if NARROWEST <= lefts[last + 1] - GAP - lefts[first] <= WIDEST
        ]
        places = {span: _below(text, lefts, ends, *span) for span in spans}
        span, place = min(
            places.items(), key=lambda item: (max(item[1].top + item[1].height, room), item[1].left, item[1].width)
        )
        for column in range(span[0], span[1] + 1):
            ends[column] = place.top + place.height
        found.append(place)
    return found


def height_of(text: str, width: int) -> int:
    """Pixels that a note of this width needs below its title bar; its first paragraph is a heading."""
    rows = [ceil(_letters(part) * LETTER / (width - EDGE)) for part in text.split("\n\n")[1:]]
    return HEADING + sum(LINE * count + BETWEEN for count in rows)


def _below(text: str, lefts: Sequence[int], ends: Sequence[int], first: int, last: int) -> Place:
    width = lefts[last + 1] - GAP - lefts[first]
    return Place(lefts[first], max(ends[first : last + 1]) + GAP + TITLE_BAR, width, height_of(text, width))


def _letters(text: str) -> int:
    """Chinese ones are twice as wide."""
    return sum(1 if letter.isascii() else 2 for letter in text)
