"""A video of any times at a constant rate: whatever is seen is seen at its own time."""

from fractions import Fraction as F

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instructx_core.video.constant_rate import MOST_REPEATS, constant_rate


def test_a_hole_is_filled_with_the_frame_before_it():
    times = [F(index, 25) for index in (0, 1, 2, 3, 4, 41)]  # frames 5 to 40 were dropped
    rate, shown = constant_rate(times, F(1, 25), F(25, 7))
    assert rate == 25
    assert shown == [0, 1, 2, 3, *[4] * 37, 5]


@pytest.mark.parametrize("stated", [F(30000, 1001), F(24)])
def test_constant_times_stay_as_they_are(stated):
    times = [round(index / stated * 1000) * F(1, 1000) for index in range(500)]  # a clock of milliseconds
    rate, shown = constant_rate(times, F(1, 30), stated)
    assert (rate, shown) == (stated, list(range(500)))


def test_a_wrong_stated_rate_is_mended():
    times = [F(index, 10) for index in range(20)]
    assert constant_rate(times, F(1, 10), F(7)) == (F(10), list(range(20)))
    assert constant_rate([F(3)], F(1), F(7)) == (F(7), [0])


def test_a_last_frame_that_is_held_is_repeated():
    times = [F(index, 10) for index in range(20)]
    assert constant_rate(times, F(2), F(10)) == (F(10), [*range(20), *[19] * 19])


def test_too_dense_frames_are_left_out():
    times = sorted([*(F(index, 10) for index in range(30)), *(F(index, 10) + F(1, 1000) for index in range(0, 30, 10))])
    rate, shown = constant_rate(times, F(1, 10), F(11))
    assert rate == 10
    assert [times[number] for number in shown] == pytest.approx([F(index, 10) for index in range(30)], abs=0.0011)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=40), st.integers(1, 400))
def test_nothing_is_seen_more_than_half_a_frame_off(steps, last):
    times = [F(0)]
    for step in steps:
        times.append(times[-1] + F(step, 100))
    last = F(last, 100)
    rate, shown = constant_rate(times, last, F(25))
    assert shown == sorted(shown)
    assert len(shown) <= MOST_REPEATS * len(times) + 1
    if shown == list(range(len(times))):
        assert all(abs(time * rate - number) <= F(1, 2) for number, time in enumerate(times))
        return
    assert abs(len(shown) - (times[-1] + last) * rate) <= 1
    for slot, number in enumerate(shown):
        middle = (slot + F(1, 2)) / rate
        assert times[number] <= middle
        assert number + 1 == len(times) or times[number + 1] > middle
