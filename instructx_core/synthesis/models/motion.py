"""Motion without a network: block matching, each block against its neighbourhood in the next frame."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 8  # pixels, at the size that is looked at
REACH = 6  # pixels in each direction
SIDE = 192  # of the shorter side that is looked at
STILL = 0.5  # of 255: by how much a shift has to be better than none


class BlockFlow:
    """The shift with the least mean difference for each block; none where nothing is clearly better."""

    def flow(self, frames: Tensor) -> Tensor:
        scale = min(1.0, SIDE / min(frames.shape[1:3]))
        grey = frames.float().mean(-1)[:, None]
        if scale < 1:
            grey = F.interpolate(grey, scale_factor=scale, mode="bilinear", antialias=True)
        flows = [_between(one, other) for one, other in pairwise(grey)]
        return torch.stack(flows) / scale


def _between(one: Tensor, other: Tensor) -> Tensor:
    """[1, H, W] twice -> [h, w, 2], pixels down and right."""
    wide = F.pad(other[None], (REACH,) * 4, mode="replicate")[0]
    height, width = one.shape[1:]
    shifts = [(y, x) for y in range(-REACH, REACH + 1) for x in range(-REACH, REACH + 1)]
    costs = []
    for y, x in shifts:
        moved = wide[:, REACH + y : REACH + y + height, REACH + x : REACH + x + width]
        costs.append(F.avg_pool2d((moved - one).abs(), BLOCK)[0])
    cost = torch.stack(costs)
    none = cost[shifts.index((0, 0))]
    best = cost.min(0)
    shift = torch.tensor(shifts, dtype=torch.float32)[best.indices]
    return shift * (best.values < none - STILL)[..., None]
