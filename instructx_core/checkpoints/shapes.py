"""Whether tensors have the names and shapes that a model asks for, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]


def shapes_of(tensors: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shape of each, of anything that has one."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def first_difference(wanted: Shapes, found: Shapes) -> str:
    """The first tensor that differs, as "NAME is SHAPE, expected SHAPE (N tensors differ)"; "" where none does."""
    odd = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if not odd:
        return ""
    is_here, expected = found.get(odd[0], "missing"), wanted.get(odd[0], "nothing")
    return f"{odd[0]} is {is_here}, expected {expected} ({len(odd)} tensors differ)"
