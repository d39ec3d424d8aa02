"""Where a stage's batches come from: their sizes."""

from __future__ import annotations

from instructx_core.training.config import DataConfig, TrainConfig
from instructx_core.training.data.sources import batch_size
from instructx_core.training.dry_run import _plan

# --- sizes


def test_a_batch_of_clips_is_never_larger_than_video_batch() -> None:
    paper = DataConfig(lengths=(81,), video_batch=1)
    assert [batch_size(paper, True, frames) for frames in (17, 49, 81)] == [1, 1, 1]
    several = DataConfig(lengths=(5, 9, 17, 33), video_batch=8)
    assert [batch_size(several, True, frames) for frames in (1, 5, 9, 17, 33)] == [8, 8, 4, 2, 1]


def test_check_says_how_many_clips_of_several_lengths_a_step_has() -> None:
    data = DataConfig(lengths=(5, 33), video_batch=8, step_videos=32)
    images, videos = _plan(TrainConfig("editing", "x", 1, {"model": "y"}, data=data), 2, {False: 1, True: 2})
    assert "x 33 frames = 4 examples, up to 32 of shorter clips (asked for: 32)" in videos
    assert "shorter" not in images
