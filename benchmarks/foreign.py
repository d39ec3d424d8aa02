"""Foreign window editors for benchmarks/long_video.py: functions that take frames and return frames."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from instructx_core import Editor
from instructx_core.long_video import FrameEdit, Turn
from support.foreign import vace, vace_edit

Make = Callable[[Editor, str, int | None], FrameEdit]


def by_frames(editor: Editor, instruction: str, steps: int | None) -> FrameEdit:
    """The model used like any pipeline: of the previous window, it sees only the frames that it is passed."""

    def edit(frames: torch.Tensor, turn: Turn) -> torch.Tensor:
        return editor.edit(frames, instruction, seed=turn.seed, steps=steps).frames

    return FrameEdit(edit, default_frames=editor.default_frames, frame_multiple=editor.codec.frame_multiple)


def by_vace(editor: Editor, _instruction: str, steps: int | None) -> FrameEdit:
    """diffusers' VACE with tiny random weights; its mask holds the frames shared by two windows."""
    edit = vace_edit(vace(), steps or 2)
    return FrameEdit(edit, default_frames=editor.default_frames, frame_multiple=4, hold_all=True)


EDITORS: dict[str, Make] = {"frames": by_frames, "vace": by_vace}
