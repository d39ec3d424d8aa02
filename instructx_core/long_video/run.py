"""The loop of a long edit: loads its windows from disk if they exist, otherwise edits and keeps them, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from ..sampling import StepCallback
from ..windows import Window, final_frames
from .footage import Footage
from .joining import EditedWindow, Handover, make_handover
from .store import WindowSize, WindowStore


@dataclass(frozen=True)
class LongProgress:
    """The progress of a long edit; counts start at 1."""

    window: int
    windows: int
    reused: int  # windows from an earlier run
    step: int  # of this window's sampling
    steps: int
    latents: Tensor | None = field(default=None, compare=False, repr=False)  # of the model, for a preview


LongCallback = Callable[[LongProgress], object]  # returning False stops the edit
WindowCallback = Callable[[int, Tensor], object]  # a window's number, from 1, and frames, uint8 [T, H, W, 3]


class EditsWindows(Protocol):
    """The interface of editors of windows: `WindowEditor` for models, `FrameEditor` for functions.

    Attributes:
        temporal_stride: frames that a latent frame spans, except the first, which spans one.
    """

    @property
    def temporal_stride(self) -> int: ...

    def prepare(self, footage: Footage) -> None:
        """Called once, before the first window that is edited."""

    def size(self, frames: int, size: tuple[int, int]) -> WindowSize | None:
        """The sizes of an edited window of `frames` frames of (height, width); None while unknown."""

    def meet(self, edited: EditedWindow) -> None:
        """Called with each window from an earlier run."""

    def edit_window(
        self,
        index: int,
        windows: Sequence[Window],
        frames: Tensor,
        given: Handover | None,
        callback: StepCallback | None = None,
    ) -> EditedWindow:
        """Edit one window.

        Args:
            index: of the window among all `windows`, from 0.
            frames: uint8 [T, H, W, 3] of the source.
            given: handed over by the previous window; None if the window starts without a head.
            callback: see `sampling.StepCallback`.

        Raises:
            EditInterrupted: the callback returned False.
        """


class WindowRun:
    """The windows of one edit; iterate over it once.

    Attributes:
        reused: windows so far that were loaded from the store.
    """

    def __init__(
        self,
        footage: Footage,
        windows: Sequence[Window],
        editor: EditsWindows,
        store: WindowStore | None = None,
        found: int = 0,
        callback: LongCallback | None = None,
        finished: WindowCallback | None = None,
    ) -> None:
        """
        Args:
            found: windows from the first on that have a file in the store.
            callback: called after each step.
            finished: called after each window that was edited (and saved, with a store).
        """
        self.footage = footage
        self.windows = windows
        self.editor = editor
        self.store = store
        self.found = found
        self.callback = callback
        self.finished = finished
        self.reused = 0

    def __iter__(self) -> Iterator[EditedWindow]:
        given: Handover | None = None
        with ExitStack() as stack:
            sources: Iterator[Tensor] | None = None
            for index, window in enumerate(self.windows):
                edited = self._kept(index)
                if edited is None:
                    if sources is None:  # the first missing one: all from here on are edited
                        self.editor.prepare(self.footage)
                        sources = stack.enter_context(closing(self.footage.read(self.windows[index:])))
                    edited = self.editor.edit_window(index, self.windows, next(sources), given, self._callback(index))
                    if self.store is not None:
                        self.store.save(index, edited)
                    if self.finished is not None:
                        self.finished(index + 1, edited.frames)
                yield edited
                if index + 1 < len(self.windows):
                    given = make_handover(edited, window, self.windows[index + 1], self.editor.temporal_stride)

    def frames(self) -> Iterator[tuple[int, Tensor]]:
        """Yield each frame of the video, in order, once no later window changes it: its number and uint8 [H, W, 3]."""
        with closing(iter(self)) as edited_windows:
            for window, final, edited in zip(self.windows, final_frames(self.windows), edited_windows, strict=True):
                for index in final:
                    yield index, edited.frames[index - window.start]

    def _kept(self, index: int) -> EditedWindow | None:
        """Load a window of an earlier run; None from the first damaged one on, as later windows continued from it."""
        if self.store is None or index >= self.found:
            return None
        info = self.footage.info
        edited = self.store.load(index, self.editor.size(len(self.windows[index]), (info.height, info.width)))
        if edited is None:
            self.found = index
        else:
            self.reused += 1
            self.editor.meet(edited)
        return edited

    def _callback(self, index: int) -> StepCallback | None:
        if self.callback is None:
            return None
        told, windows, reused = self.callback, len(self.windows), self.reused
        return lambda step, steps, latents: told(LongProgress(index + 1, windows, reused, step, steps, latents))
