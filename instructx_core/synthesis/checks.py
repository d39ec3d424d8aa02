"""The filter: scores measured on a pair, a judge's scores, and the bounds on both.

| score | meaning | range |
|---|---|---|
| detection | the detector's confidence | 0 to 1 |
| area | share of the clip that the mask covers | 0 to 1 |
| seen | share of frames with a non-empty mask | 0 to 1 |
| change | share of pixels that change | 0 to 1 |
| fit | share of the mask that changes: low if the mask is larger than the object | 0 to 1 |
| outside | share of the pixels well outside the mask that change | 0 to 1 |
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
CHANGED = 12  # of 255, in any channel: a visible change
MARGIN = 2  # pixels around a mask that belong to its soft edge


def passed_measures(candidate: Candidate, bounds: Bounds) -> Candidate:
    """Add the measured scores, and the reason for dropping the candidate if one is out of bounds."""
    if candidate.reason or candidate.source is None or candidate.target is None:
        return candidate
    scores = {**candidate.scores, **measured(candidate)}
    reason = _out_of(scores, bounds)
    return replace(candidate, scores=scores, reason=reason, stage="measures" if reason else "")


def passed_judge(candidate: Candidate, bounds: Bounds, judge: EditRater | None) -> Candidate:
    """Add the judge's scores, and the reason for dropping the candidate if one is out of bounds."""
    if candidate.reason or candidate.source is None or candidate.target is None or judge is None:
        return candidate
    rated = judge.rate(candidate.source, candidate.target, candidate.instructions[0], candidate.reference)
    rated = {name: float(value) for name, value in rated.items()}
    reason = _out_of(rated, bounds)
    return replace(candidate, scores={**candidate.scores, **rated}, reason=reason, stage="judge" if reason else "")


def measured(candidate: Candidate) -> dict[str, float]:
    """The scores of a pair that follow from its pixels and mask."""
    assert candidate.source is not None and candidate.target is not None
    # frame by frame, here and in `grown_mask`: a clip of floats or integers takes several times its own memory
    pairs = zip(candidate.source, candidate.target, strict=True)
    changed = torch.stack([(before.int() - after.int()).abs().amax(-1) >= CHANGED for before, after in pairs])
    scores = {"change": _share(changed)}
    if (mask := candidate.mask) is not None:
        scores |= {
            "area": _share(mask),
            "seen": _share(mask.flatten(1).any(1)),
            "fit": _share(changed, mask),
            "outside": _share(changed, ~grown_mask(mask, MARGIN)),
        }
    return scores


def grown_mask(mask: Tensor, pixels: int) -> Tensor:
    """Dilate a mask [T, H, W] by `pixels` on all sides."""
    side = 2 * pixels + 1
    return torch.stack([F.max_pool2d(frame[None].float(), side, stride=1, padding=pixels)[0] > 0 for frame in mask])


def _out_of(scores: Mapping[str, float], bounds: Bounds) -> str:
    for name, value in scores.items():
        low, high = bounds.get(name, (float("-inf"), float("inf")))
        if not low <= value <= high:
            return f"{name} {'below' if value < low else 'above'} {low if value < low else high:g}"
    return ""


def _share(flags: Tensor, among: Tensor | None = None) -> float:
    """The share of set flags, among all or those that a mask selects; 0 if there are none."""
    count = flags.numel() if among is None else int(among.count_nonzero())
    found = flags if among is None else flags & among
    return int(found.count_nonzero()) / count if count else 0.0
