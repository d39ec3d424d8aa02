"""Masks as COCO's compressed run lengths, which AdvancedEdit's records have: {"size": [height, width], "counts": ...}.

Runs go down the columns and begin with the unset ones. From the fourth on, a run is written as its difference to the
one two before. Numbers come in groups of five bits, the lowest first, a sixth bit saying that more follow, as
characters from "0" on.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def encode_mask(mask: Tensor) -> dict[str, Any]:
    """bool [H, W] -> {"size", "counts"}."""
    height, width = mask.shape
    flat = mask.t().flatten().int()
    edges = torch.cat([flat.new_zeros(1), flat]).diff().nonzero()[:, 0].tolist()
    ends = [*edges, height * width]
    runs = [end - start for start, end in zip([0, *edges], ends, strict=True)]
    return {"size": [height, width], "counts": "".join(map(_written, _differences(runs)))}


def decode_mask(encoded: dict[str, Any]) -> Tensor:
    """The mask of what `encode_mask` gives: bool [H, W]. Raises ValueError where the runs do not fill it."""
    height, width = encoded["size"]
    runs = _sums(_read(encoded["counts"]))
    if min(runs, default=0) < 0 or sum(runs) != height * width:
        raise ValueError("the runs of the mask do not fill its size")
    values = torch.arange(len(runs)) % 2 == 1
    return values.repeat_interleave(torch.tensor(runs)).view(width, height).t()


def _differences(runs: list[int]) -> list[int]:
    return [run - runs[at - 2] if at > 2 else run for at, run in enumerate(runs)]


def _sums(numbers: list[int]) -> list[int]:
    runs: list[int] = []
    for at, number in enumerate(numbers):
        runs.append(number + runs[at - 2] if at > 2 else number)
    return runs


def _written(number: int) -> str:
    letters = ""
    while True:
        five, number = number & 31, number >> 5
        more = number != (-1 if five & 16 else 0)
        letters += chr(48 + five + 32 * more)
        if not more:
            return letters


def _read(text: str) -> list[int]:
    numbers: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            numbers.append(value - (1 << shift) if bits & 16 else value)
            value = shift = 0
    return numbers
