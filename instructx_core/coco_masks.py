"""COCO's run-length encoding of masks, used in AdvancedEdit's records: {"size": [height, width], "counts"}.

Runs go down the columns, column by column, starting with unset pixels. Counts are a list of them, or compressed to a
string: from the fourth on, a run is stored as its difference from the run two before. Values are split into groups of
five bits, lowest first; a sixth bit marks that more follow. Each group is one character, counted from "0".
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .errors import InputError
from .words import shown

LARGEST = 1 << 26  # pixels


def encode_mask(mask: Tensor) -> dict[str, Any]:
    """bool [H, W] -> {"size", "counts"}."""
    height, width = mask.shape
    flat = mask.t().flatten().int()
    edges = torch.cat([flat.new_zeros(1), flat]).diff().nonzero()[:, 0].tolist()
    ends = [*edges, height * width]
    runs = [end - start for start, end in zip([0, *edges], ends, strict=True)]
    return {"size": [height, width], "counts": "".join(map(_written, _differences(runs)))}


def _differences(runs: list[int]) -> list[int]:
    return [run - runs[at - 2] if at > 2 else run for at, run in enumerate(runs)]


def _written(number: int) -> str:
    letters = ""
    while True:
        five, number = number & 31, number >> 5
        more = number != (-1 if five & 16 else 0)
        letters += chr(48 + five + 32 * more)
        if not more:
            return letters


def decode_mask(segmentation: Any, place: str) -> Tensor:
    """{"size": [H, W], "counts": string or integers} -> bool [H, W].

    Raises InputError, beginning with `place`, for anything else, and if the runs do not add up to the size.
    """
    size, counts = (
        (segmentation.get(name) for name in ("size", "counts")) if isinstance(segmentation, dict) else (None,) * 2
    )
    whole = isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) and side > 0 for side in size)
    if not whole or size[0] * size[1] > LARGEST or not isinstance(counts, (str, list)):
        raise InputError(f"{place}: the segmentation is {shown(segmentation)}; give COCO's size and counts.")
    runs = _numbers(counts) if isinstance(counts, str) else counts
    if not all(type(run) is int and run >= 0 for run in runs) or sum(runs) != size[0] * size[1]:
        raise InputError(f"{place}: the segmentation's runs do not fill {size[0]} x {size[1]} pixels.")
    values = torch.repeat_interleave(torch.arange(len(runs)) % 2 == 1, torch.tensor(runs))
    return values.view(size[1], size[0]).T  # runs go down the columns


def _numbers(text: str) -> list[int]:
    """The runs of compressed counts; [-1] if the last one is cut."""
    numbers: list[int] = []
    value, shift = 0, 0
    for letter in text:
        bits = ord(letter) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            numbers.append(value + (numbers[-2] if len(numbers) > 2 else 0))
            value, shift = 0, 0
    return numbers if not shift else [-1]
