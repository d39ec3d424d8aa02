"""Optical flow without a network: match each block against its neighbourhood in the next frame."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 8  # pixels, after scaling down
REACH = 6  # pixels in each direction
SIDE = 192  # pixels of the shorter side after scaling down
STILL = 0.5  # of 255: the improvement that a shift needs over no shift


class BlockFlow:
    """For each block, the shift with the least mean difference; zero unless it is clearly better than no shift."""

    def flow(self, frames: Tensor) -> Tensor:
        scale = min(1.0, SIDE / min(frames.shape[1:3]))
        grey = frames.float().mean(-1)[:, None]
        if scale < 1:
            grey = F.interpolate(grey, scale_factor=scale, mode="bilinear", antialias=True)
        flows = [_between(one, other) for one, other in pairwise(grey)]
        return torch.stack(flows) / scale


def _between(one: Tensor, other: Tensor) -> Tensor:
    """Two frames [1, H, W] -> [h, w, 2], pixels down and right."""
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
