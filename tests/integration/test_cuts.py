"""Scene cuts found in the pictures: by PySceneDetect where it is installed, and by a stand-in with its face."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from instructx_core import Editor, InputError
from instructx_core.long_video import LongOptions, edit_video
from instructx_core.long_video.cuts import find_cuts, with_cuts
from instructx_core.long_video.footage import in_memory, look_through
from instructx_core.windows import AUTO_CUTS, Span, parse_cuts
from support.commands import run
from support.video_files import make_video

CUTS = (20, 45)


def scenes() -> torch.Tensor:
    """Three scenes [70, 48, 64, 3]: smooth pictures of other colours that move a little."""
    tall, wide = np.mgrid[0:48, 0:64]
    frames = np.empty((70, 48, 64, 3), np.uint8)
    for index in range(70):
        scene = sum(index >= cut for cut in CUTS)
        wave = 127 + 100 * np.sin((wide * (scene + 1) + tall + index) / 15)
        frames[index] = 40 * (2 - scene)
        frames[index, ..., scene] = wave
    return torch.from_numpy(frames)


@dataclass(frozen=True)
class Time:
    frame_num: int
    fps: float


class Detector:
    def __init__(self) -> None:
        self.last = None

    def process_frame(self, time: Time, picture: np.ndarray) -> list[Time]:
        assert picture.dtype == np.uint8 and picture.shape[2] == 3 and picture.flags.c_contiguous
        last, self.last = self.last, picture.astype(int)
        return [time] if last is not None and np.abs(self.last - last).mean() > 27 else []

    def post_process(self, time: Time) -> list[Time]:
        assert time.frame_num == 69
        return []


@pytest.fixture(params=["stand-in", "PySceneDetect"])
def detector(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "stand-in":
        module = ModuleType("scenedetect")
        module.ContentDetector, module.FrameTimecode = Detector, Time
        monkeypatch.setitem(sys.modules, "scenedetect", module)
    elif importlib.util.find_spec("scenedetect") is None:
        pytest.skip("PYSCENEDETECT IS NOT INSTALLED: only its stand-in was tried; pip install scenedetect")


def test_cuts_are_found_in_files_and_in_memory(detector, tmp_path: Path):
    frames = scenes()
    assert find_cuts(in_memory(frames / 255, Fraction(8))) == CUTS
    path = make_video(tmp_path / "in.mkv", frames.numpy(), codec="ffv1", pix_fmt="bgr0")
    assert find_cuts(look_through(path)) == CUTS
    assert with_cuts(LongOptions(cuts=AUTO_CUTS), look_through(path)).cuts == CUTS
    assert with_cuts(LongOptions(cuts=(3,)), look_through(path)).cuts == (3,)


def test_windows_begin_where_scenes_do(detector, inverting: Editor, tmp_path: Path):
    source = make_video(tmp_path / "in.mkv", scenes().numpy(), codec="ffv1", pix_fmt="bgr0")
    options = LongOptions(window=Span.parse("33f"), cuts=AUTO_CUTS)
    result = edit_video(inverting, source, tmp_path / "out.mp4", "invert it", options=options, resume=True)
    assert [(window.start, window.stop, window.head) for window in result.windows] == [
        (0, 20, 0),
        (20, 45, 0),
        (45, 70, 0),
    ]


def test_without_the_package_one_sentence_says_so(tmp_path: Path, monkeypatch, tiny_editor: Editor, capsys):
    monkeypatch.setitem(sys.modules, "scenedetect", None)  # an import then fails
    source = make_video(tmp_path / "in.mp4")
    with pytest.raises(InputError, match=r"pip install 'scenedetect>=0\.7'") as caught:
        edit_video(tiny_editor, source, tmp_path / "out.mp4", "invert it", options=LongOptions(cuts=AUTO_CUTS))
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(Editor, "from_pretrained", lambda *args, **options: pytest.fail("a model was loaded"))
    assert run(source, "invert it", "-o", tmp_path / "out.mp4", "--cuts", "auto") == 2
    assert "pip install" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_words():
    assert parse_cuts(" Auto ") == AUTO_CUTS and parse_cuts("5, 9") == (5, 9)
    with pytest.raises(InputError, match="or auto"):
        parse_cuts("autos")
