"""Which frames the MLLM sees: evenly spread, both ends, none twice."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from instructx_core.guidance.frames import sample_indices


def test_thirteen_frames_of_five_seconds():
    assert sample_indices(81, 13).tolist() == [0, 7, 13, 20, 27, 33, 40, 47, 53, 60, 67, 73, 80]
    assert sample_indices(121, 13).tolist() == list(range(0, 121, 10))


@given(st.integers(1, 2000), st.integers(1, 64))
def test_even_and_whole(frames: int, count: int):
    indices = sample_indices(frames, count)
    assert indices.dtype == torch.int64 and len(indices) == min(frames, count)
    assert indices[0] == 0 and (count == 1 or indices[-1] == frames - 1)
    gaps = indices.diff()
    assert (gaps >= 1).all()
    if len(gaps):
        assert gaps.max() - gaps.min() <= 1


def test_short_videos_give_every_frame_once():
    for frames in range(1, 14):
        assert sample_indices(frames, 13).tolist() == list(range(frames))
