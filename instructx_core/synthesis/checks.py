"""The filter: numbers that are measured on a pair, a judge's, and the bounds that they have to keep.

| score | what | |
|---|---|---|
| detection | the detector's own | 0 to 1 |
| area | share of the clip that the mask covers | 0 to 1 |
| seen | share of frames in which the mask is not empty | 0 to 1 |
| change | share of pixels that change | 0 to 1 |
| fit | share of the mask that changes: low where it is wider than the thing | 0 to 1 |
| outside | share of what is well outside of the mask that changes | 0 to 1 |
| follow, preserve, quality | the judge's | 0 to 10 |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .candidate import Candidate
from .experts import EditRater

Score = Literal["detection", "area", "seen", "change", "fit", "outside", "follow", "preserve", "quality"]
Bounds = Mapping[str, tuple[float, float]]
DEFAULT: dict[Score, tuple[float, float]] = {
    "detection": (0.35, 1.0),
    "area": (0.002, 0.6),
    "seen": (0.5, 1.0),
    "change": (0.002, 1.0),
    "fit": (0.85, 1.0),
    "outside": (0.0, 0.02),
    "follow": (7.0, 10.0),
    "preserve": (7.0, 10.0),
    "quality": (7.0, 10.0),
}
CHANGED = 12  # of 255, of one channel: a change that is seen
MARGIN = 2  # pixels around a mask that belong to its soft edge


def passed_measures(candidate: Candidate, bounds: Bounds) -> Candidate:
    """With what pixels tell, and with the reason where that is out of bounds."""
    if candidate.reason or candidate.source is None or candidate.target is None:
        return candidate
    scores = {**candidate.scores, **measured(candidate)}
    reason = _out_of(scores, bounds)
    return replace(candidate, scores=scores, reason=reason, stage="measures" if reason else "")


def passed_judge(candidate: Candidate, bounds: Bounds, judge: EditRater | None) -> Candidate:
    """With the judge's scores, and with the reason where one of them is out of bounds."""
    if candidate.reason or candidate.source is None or candidate.target is None or judge is None:
        return candidate
    rated = judge.rate(candidate.source, candidate.target, candidate.instructions[0], candidate.reference)
    rated = {name: float(value) for name, value in rated.items()}
    reason = _out_of(rated, bounds)
    return replace(candidate, scores={**candidate.scores, **rated}, reason=reason, stage="judge" if reason else "")


def measured(candidate: Candidate) -> dict[str, float]:
    """What pixels alone tell of a pair."""
    assert candidate.source is not None and candidate.target is not None
    changed = (candidate.source.int() - candidate.target.int()).abs().amax(-1) >= CHANGED
    scores = {"change": _share(changed)}
    if (mask := candidate.mask) is not None:
        scores |= {
            "area": _share(mask),
            "seen": _share(mask.flatten(1).any(1)),
            "fit": _share(changed[mask]),
            "outside": _share(changed[~grown_mask(mask, MARGIN)]),
        }
    return scores


def grown_mask(mask: Tensor, pixels: int) -> Tensor:
    """A mask [T, H, W], wider by some pixels on all sides."""
    wide = F.max_pool2d(mask[:, None].float(), 2 * pixels + 1, stride=1, padding=pixels)
    return wide[:, 0] > 0


def _out_of(scores: Mapping[str, float], bounds: Bounds) -> str:
    for name, value in scores.items():
        low, high = bounds.get(name, (float("-inf"), float("inf")))
        if not low <= value <= high:
            return f"{name} {'below' if value < low else 'above'} {low if value < low else high:g}"
    return ""


def _share(flags: Tensor) -> float:
    return flags.to(torch.float32).mean().item() if flags.numel() else 0.0
