"""Windows cover every frame once, each beginning with what the last one edited."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from instructx_core.errors import InputError
from instructx_core.windows import plan_windows, replace_head


@given(frames=st.integers(1, 300), length=st.integers(1, 90), data=st.data())
def test_every_frame_is_new_in_exactly_one_window(frames, length, data):
    overlap = data.draw(st.integers(0, length - 1))
    windows = plan_windows(frames, length, overlap)
    new = [frame for window in windows for frame in range(window.start + window.head, window.stop)]
    assert new == list(range(frames))
    assert all(len(window) <= length for window in windows)
    assert all(later.start + later.head == earlier.stop for earlier, later in itertools.pairwise(windows))


@pytest.mark.parametrize(("length", "overlap"), [(5, 5), (5, -1), (0, 0)])
def test_windows_that_cannot_advance_are_refused(length, overlap):
    with pytest.raises(InputError, match="overlap"):
        plan_windows(10, length, overlap)


def test_head_is_replaced():
    source, tail = torch.zeros(5, 2, 2, 3), torch.ones(2, 2, 2, 3)
    assert replace_head(source, tail)[:, 0, 0, 0].tolist() == [1, 1, 0, 0, 0]
    assert replace_head(source, tail[:0]) is not None
