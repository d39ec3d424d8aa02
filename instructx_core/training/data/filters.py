"""Which rows a config wants, by their scores, words and masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from .pixels import covered
from .rows import Media

MASK = "mask"  # the share of a row's mask that is white
Filter: TypeAlias = "float | tuple[float, float] | tuple[str, ...]"


def wanted(filters: Mapping[str, Filter], scores: Mapping[str, Any], mask: Media | None) -> bool:
    """Whether a row passes all filters; one that lacks what a filter asks for does not.

    Args:
        filters: name -> the least number, the least and the most, or the words that are wanted.
        scores: what the row says of itself.

    Raises:
        RowError: a mask that cannot be read.
    """
    for name, asked in filters.items():
        if name == MASK:
            value: Any = None if mask is None else covered(mask)
        else:
            value = scores.get(name)
        if not _passes(value, asked):
            return False
    return True


def _passes(value: Any, asked: Filter) -> bool:
    if isinstance(asked, tuple) and isinstance(asked[0], str):
        return isinstance(value, str) and value in asked
    least, most = asked if isinstance(asked, tuple) else (asked, float("inf"))
    try:
        return least <= float(value) <= most
    except (TypeError, ValueError, OverflowError):  # no number
        return False
