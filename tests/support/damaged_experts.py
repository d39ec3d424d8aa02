"""World experts that err now and then, and note in which clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from instructx_core.synthesis.checks import grown_mask
from instructx_core.synthesis.experts import Detection, Detector, Eraser, Experts, Segmenter
from instructx_core.synthesis.world import World


@dataclass
class Damage:
    """Strikes a share of all calls, by a seed."""

    share: float
    seed: int = 0
    clip: str = ""
    struck: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def strikes(self) -> bool:
        if hit := self.rng.random() < self.share:
            self.struck.add(self.clip)
        return hit


@dataclass
class FalseDetections:
    """A box of ground, or of the whole picture's corner, with a high score."""

    right: Detector
    damage: Damage

    def find(self, picture: Tensor, name: str) -> Sequence[Detection]:
        found = self.right.find(picture, name)
        if not found or not self.damage.strikes():
            return found
        left, top, right, bottom = found[0].box
        height, width = picture.shape[:2]
        moved = (width - right, height - bottom, width - left, height - top)  # its mirror image
        if abs(left - moved[0]) + abs(top - moved[1]) < 8:
            moved = (0, 0, width // 4, height // 4)
        return [Detection(moved, 0.9)]


@dataclass
class GrownMasks:
    right: Segmenter
    damage: Damage

    def track(self, frames: Tensor, box: tuple[float, float, float, float]) -> Tensor:
        mask = self.right.track(frames, box)
        return grown_mask(mask, 3) if self.damage.strikes() else mask


@dataclass
class SmearedErasure:
    """What is behind, with a third of the blurred object left in it."""

    right: Eraser
    damage: Damage

    def fill(self, frames: Tensor, mask: Tensor, words: str) -> Tensor:
        clean = self.right.fill(frames, mask, words)
        if not self.damage.strikes():
            return clean
        ghost = F.avg_pool2d(frames.permute(0, 3, 1, 2).float(), 9, 1, 4, count_include_pad=False).permute(0, 2, 3, 1)
        smeared = (2 * clean.float() + ghost) / 3
        return torch.where(grown_mask(mask, 1)[..., None], smeared.round().to(torch.uint8), clean)


def damaged(world: World, kind: str, damage: Damage) -> Experts:
    right = world.experts()
    if kind == "detections":
        return replace(right, detect=FalseDetections(right.detect, damage))
    if kind == "masks":
        return replace(right, segment=GrownMasks(right.segment, damage))
    return replace(right, erase=SmearedErasure(right.erase, damage))
