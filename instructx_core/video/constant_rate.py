"""Convert a video with any frame times to a constant frame rate, in sync with its sound."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from statistics import median

MOST_REPEATS = 10  # upper limit, as a multiple of the video's frames


def constant_rate(times: Sequence[Fraction], last: Fraction, stated: Fraction) -> tuple[Fraction, list[int]]:
    """Choose which frames to show, all equally long, so that each appears at its own time.

    Args:
        times: when each frame is shown, in seconds, increasing.
        last: how long the last one is shown, in seconds.
        stated: frames per second, as the file says.

    Returns:
        Frames per second, and frame numbers. If the rate is already constant, to within half a frame, every number
        appears once. Otherwise frames are repeated or dropped at the rate of the median interval; no frame is more than
        half a frame early or late, unless that would take more than ten times the video's frames.
    """
    count, span = len(times), times[-1] - times[0]
    even = [stated, *([((count - 1) / span).limit_denominator(1001)] if span else [])]
    for rate in even:
        stays = count == 1 or last * rate <= Fraction(3, 2)  # a last frame that is held longer is repeated
        if stays and all(abs((time - times[0]) * rate - number) <= Fraction(1, 2) for number, time in enumerate(times)):
            return rate, list(range(count))
    interval = median(after - before for before, after in pairwise(times))
    rate = max(Fraction(1, 1001), (1 / Fraction(interval)).limit_denominator(1001))
    rate = min(rate, MOST_REPEATS * count / (span + last))
    shown, number = [], 0
    for slot in range(max(1, round((span + last) * rate))):
        middle = (slot + Fraction(1, 2)) / rate
        while number + 1 < count and times[number + 1] - times[0] <= middle:
            number += 1
        shown.append(number)
    return rate, shown
