"""Select rows by the config's filters on their scores, words and masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from .pixels import covered
from .rows import Media

MASK = "mask"  # the share of a row's mask that is white
Filter: TypeAlias = "float | tuple[float, float] | tuple[str, ...]"


def wanted(filters: Mapping[str, Filter], scores: Mapping[str, Any], mask: Media | None) -> bool:
    """True if a row passes all filters; a row without the field that a filter names fails.

    Args:
        filters: name -> a minimum, (minimum, maximum), or the accepted words.
        scores: the row's fields that filters may name.

    Raises:
        RowError: the mask cannot be read.
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
    except (TypeError, ValueError, OverflowError):  # not a number
        return False
