"""Metrics of a benchmark's edits that need no judge: outside a mask at 256 x 256, as in InsightEdit's tables."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..errors import InputError
from ..fit import resize
from ..source import load_source
from .benches import Case
from .preservation import measure
from .report import Progress

if TYPE_CHECKING:
    from .bench_run import BenchRun
    from .perceptual import ClipScore, Lpips

logger = logging.getLogger(__name__)
SIDE = 256


def measure_cases(
    run: BenchRun, lpips: Lpips | None = None, clip: ClipScore | None = None, progress: Progress | None = None
) -> int:
    """Measure the edits of masked cases that still lack one of the metrics; return how many this call measured, and
    warn of those whose files cannot be read.
    """
    wanted = {"PSNR", "SSIM"} | ({"LPIPS"} if lpips else set()) | ({"CLIPScore"} if clip else set())
    done = run.measured.read()
    left = [
        case
        for case in run.cases
        if case.mask and run.has_edit(case) and not wanted <= done.get(case.key, {}).get("scores", {}).keys()
    ]
    count, unread = 0, []
    for number, case in enumerate(left, 1):
        with run.measured.claim(case.key) as mine:
            known = run.measured.read().get(case.key, {}).get("scores", {}) if mine else {}
            if mine and not wanted <= known.keys():
                try:
                    scores = known | _measured(run, case, lpips, clip)
                except InputError as error:
                    unread.append(f"{case.key}: {error}")
                else:
                    line = {"key": case.key, "group": case.group, "tags": dict(case.tags), "scores": scores}
                    run.measured.append(line)
                    count += 1
        if progress:
            progress(number, len(left), "measuring")
    if unread:
        logger.warning("%d of %d cases could not be measured; the first: %s", len(unread), len(left), unread[0])
    return count


def _measured(run: BenchRun, case: Case, lpips: Lpips | None, clip: ClipScore | None) -> dict[str, float | None]:
    size = (SIDE, SIDE)
    source, edited, mask = (
        resize(load_source(path).frames[:1], size) for path in (case.source, run.edit_of(case), case.mask)
    )
    region = mask.mean(-1) >= 0.5
    found = measure(source, edited, region.float())
    scores: dict[str, float | None] = {"PSNR": found.psnr, "SSIM": found.ssim}
    if lpips:
        scores["LPIPS"] = lpips(source, edited, region)
    if clip:
        seen = bool(region.any()) and bool(case.word)
        scores["CLIPScore"] = clip(edited, region, case.word) if seen else None
    return scores
