"""COCO's compressed run-length encoding of masks, used in AdvancedEdit's records: {"size": [height, width], "counts"}.

Runs go down the columns, column by column, starting with unset pixels. From the fourth on, a run is stored as its
difference from the run two before. Values are split into groups of five bits, lowest first; a sixth bit marks that more
follow. Each group is one character, counted from "0".
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
