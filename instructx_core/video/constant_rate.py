"""A video of any times at one constant frame rate, still in time with its sound."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from statistics import median

MOST_REPEATS = 10  # times as many frames as the video has, at most


def constant_rate(times: Sequence[Fraction], last: Fraction, stated: Fraction) -> tuple[Fraction, list[int]]:
    """Which frames to show one after the other, each equally long, so that each is seen at its own time.

    Args:
        times: when each frame is shown, in seconds, increasing.
        last: how long the last one is shown, in seconds.
        stated: frames per second, as the file says.

    Returns:
        Frames per second, and numbers of frames. Where the times are constant already, to within half a frame, every
        number stands there once. Otherwise frames are repeated or left out at the rate of the usual interval; no frame
        is seen more than half of one earlier or later than in the video, unless that would take more than ten times
        its frames.
    """
    count, span = len(times), times[-1] - times[0]
    even = [stated, *([((count - 1) / span).limit_denominator(1001)] if span else [])]
    for rate in even:
        stays = count == 1 or last * rate <= Fraction(3, 2)  # a last frame that is held is repeated
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
