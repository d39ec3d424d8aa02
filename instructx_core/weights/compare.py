"""Compare tensor names and shapes with those that a model expects, and describe differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import CheckpointError
from ..words import escaped, quoted, quoted_path

Shapes = Mapping[str, tuple[int, ...]]


def shape_of(shapes: Shapes, name: str, dimensions: int, source: object) -> tuple[int, ...]:
    """The shape of a tensor that a model requires.

    Raises:
        CheckpointError: it is missing, empty, or has a different number of dimensions; `source` is the path to name.
    """
    shape = shapes.get(name)
    if shape is None or len(shape) != dimensions or not all(shape):
        found = "is missing" if shape is None else f"has the shape {tuple(shape)[:8]}"
        raise CheckpointError(
            f"{quoted_path(source)} cannot be used: {quoted(name)} {found}, expected {dimensions} dimensions; get it "
            "again."
        )
    return tuple(shape)


def shapes_of(tensors: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shape of each value; works for anything with a `.shape`."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def count_layers(shapes: Shapes, pattern: str) -> int:
    """The number of layers, counted from 0, that have a tensor of this name, where `{}` is the layer's number."""
    return next(number for number in range(len(shapes) + 1) if pattern.format(number) not in shapes)


def first_difference(wanted: Shapes, found: Shapes) -> str:
    """The first tensor that differs, as "NAME is SHAPE, expected SHAPE (N tensors differ)"; "" if none does."""
    odd = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if not odd:
        return ""
    is_here, expected = found.get(odd[0], "missing"), wanted.get(odd[0], "nothing")
    return f"{escaped(odd[0])} is {is_here}, expected {expected} ({len(odd)} tensors differ)"
