"""The numbers of benchmarks/long_video.py that cost little, and the rulers that it measures with."""

from __future__ import annotations

import importlib.util
import sys
import weakref
from pathlib import Path

import pytest
import torch

from instructx_core import Editor
from instructx_core.long_video import LongOptions, edit_video
from instructx_core.video import VideoReader
from instructx_core.windows import Span, plan_windows
from support.places import ROOT
from support.video_files import clip, make_video


@pytest.fixture(scope="module")
def benchmark():
    path = ROOT / "benchmarks" / "long_video.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_long_video", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their annotations up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("resume", [False, True])
def test_frames_in_memory_do_not_grow_with_the_video(inverting: Editor, tmp_path: Path, monkeypatch, resume: bool):
    """Of the decoded frames no more are alive than a window and a half has, in a short video and in a long one."""
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    most = 0
    real = VideoReader.__iter__

    def watched(self: VideoReader):
        nonlocal most
        for frame, pts in real(self):
            alive.add(frame)
            most = max(most, len(alive))
            yield frame, pts
            del frame

    monkeypatch.setattr(VideoReader, "__iter__", watched)
    options = LongOptions(window=Span.parse("9f"))
    peaks = []
    for frames in (18, 180):
        most = 0
        source = make_video(tmp_path / "in.mp4", clip(18, 16, 16).repeat(frames // 18, axis=0))
        edit_video(inverting, source, tmp_path / "out.mp4", "invert it", options=options, resume=resume)
        peaks.append(most)
    assert peaks[1] <= peaks[0] + 1 <= 14


def test_seam_score(benchmark):
    windows = plan_windows(17, 9, 1, multiple=4)
    steady = torch.arange(17.0).view(17, 1, 1, 1).expand(17, 4, 4, 3)
    assert benchmark.seam_score(steady, windows) == pytest.approx(1)
    jumping = steady + 2 * (torch.arange(17) >= 9).view(17, 1, 1, 1)  # frame 9 is the first new one of the second
    assert benchmark.seam_score(jumping, windows) == pytest.approx(3)


def test_fade_score(benchmark):
    windows = plan_windows(13, 9, 5, multiple=4)
    assert benchmark.fade_score(torch.zeros(9, 4, 4, 3), plan_windows(9, 9, 5)) is None
    steady = torch.arange(13.0).view(13, 1, 1, 1).expand(13, 4, 4, 3)
    assert benchmark.fade_score(steady, windows) == pytest.approx(1)
    faster = steady + 2 * (torch.arange(13) - 4).clamp(0, 4).view(13, 1, 1, 1)  # frames 4 to 8 are shared
    assert benchmark.fade_score(faster, windows) == pytest.approx(3)


def test_colour_difference(benchmark):
    white, black = torch.ones(3), torch.zeros(3)
    assert benchmark.delta_e(white, black).item() == pytest.approx(100, abs=0.01)
    assert benchmark.lab(torch.tensor([1.0, 0.0, 0.0])).tolist() == pytest.approx([53.24, 80.09, 67.20], abs=0.1)
    assert benchmark.lab(torch.full((3,), 0.5)).tolist() == pytest.approx([53.39, 0, 0], abs=0.05)


def test_a_video_s_score(benchmark):
    triplet = benchmark.draw("recolor", 0, 17, (64, 64))
    windows = plan_windows(17, 9, 1, multiple=4)
    perfect = benchmark.score(torch.from_numpy(triplet.target), triplet, windows)
    assert perfect.first_success and perfect.last_success
    assert perfect.unedited == pytest.approx((0, 0), abs=1e-3) and perfect.error == (0, 0)
    copied = benchmark.score(torch.from_numpy(triplet.source), triplet, windows)
    assert not copied.first_success and not copied.last_success
    assert copied.unedited == (0, 0) and min(copied.error) > 0
