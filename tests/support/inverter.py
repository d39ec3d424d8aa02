"""In a model's place: an inverter with a memory.

Each window writes into its corner a number that follows from the frames that it was handed, so that a chain of windows
that was broken somewhere shows in the pixels.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from instructx_core import EditInterrupted, Editor
from instructx_core.long_video import LongOptions, edit_video
from instructx_core.long_video.joining import EditedWindow
from instructx_core.long_video.store import WindowStore
from instructx_core.long_video.window_editor import WindowEditor
from instructx_core.windows import Span

WORDS = "invert it"
OPTIONS = LongOptions(window=Span.parse("5f"))
COUNT = 17  # four windows


def stand_in(self: WindowEditor, frames: torch.Tensor, given=None, callback=None) -> EditedWindow:
    edited = 255 - frames
    edited[:, :8, :8] = 40 if given is None else (int(given.frames[-1, :8, :8].float().mean()) + 20) % 250
    if given is not None:
        edited[: len(given.frames)] = given.frames
    if callback is not None and callback(1, 1, None) is False:
        raise EditInterrupted("stopped")
    return EditedWindow(edited, torch.zeros(1, 1, len(frames), 1, 1))


@pytest.fixture
def inverting(tiny_editor: Editor, monkeypatch: pytest.MonkeyPatch) -> Editor:
    """An editor whose windows the inverter edits: a model would take hours for what these tests ask."""
    monkeypatch.setattr(WindowEditor, "edit", stand_in)
    return tiny_editor


def edit(editor: Editor, source: Path, target: Path, **more: object):
    return edit_video(editor, source, target, WORDS, **({"options": OPTIONS, "resume": True} | more))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def stop_after(windows: int):
    return lambda at: at.window <= windows


def interrupted(editor: Editor, source: Path, target: Path, windows: int = 2) -> WindowStore:
    with pytest.raises(EditInterrupted):
        edit(editor, source, target, callback=stop_after(windows))
    store = WindowStore(target)
    assert store.exists and not target.exists()
    return store
