"""A video of any length, edited window by window from file to file (A.5).

look through -> plan -> for each window: decode -> edit -> keep (if asked) -> encode what is final -> hand over

Memory holds one window's frames and what it hands to the next, whatever the length of the video.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..editor import check_instruction
from ..errors import InputError
from ..guidance.frames import sample_indices
from ..paths import readable_file
from ..sampling import initial_noise
from ..source import check_output, is_video_file, load_references
from ..video import VideoWriter
from ..windows import Window, final_frames
from .fingerprint import identity
from .footage import Footage, look_through
from .joining import EditedWindow, Handover, hand_over
from .options import LongOptions, Reading
from .store import WindowStore, logger
from .window_editor import Request, WindowEditor

if TYPE_CHECKING:
    from ..editor import Editor


@dataclass(frozen=True)
class LongProgress:
    """Where a long edit stands; counts are from 1."""

    window: int
    windows: int
    reused: int  # windows at the beginning that an earlier run has edited
    step: int  # of this window's sampling
    steps: int


LongCallback = Callable[[LongProgress], object]  # a return of False stops


@dataclass(frozen=True)
class LongResult:
    """What a long edit has written."""

    path: Path
    windows: tuple[Window, ...]
    reused: int  # windows that came from an earlier, interrupted run


def edit_video(
    editor: Editor,
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    instruction: str,
    reference: Any = None,
    options: LongOptions | None = None,
    steps: int | None = None,
    shift: float | None = None,
    guidance_scale: float | None = None,
    seed: int = 0,
    height: int | None = None,
    width: int | None = None,
    resume: bool = False,
    callback: LongCallback | None = None,
) -> LongResult:
    """Edit a video file of any length into another file, which keeps its times, sound, rotation and colour tags.

    Args:
        editor: a loaded model.
        source: a video file, or an animated image.
        output: the file to write; it appears when it is complete.
        instruction, reference, steps, shift, guidance_scale, seed, height, width: as `Editor.edit`. A video of one
            window comes out as from there, but for `options.anchor_colour`.
        options: how windows are laid and joined; None for the defaults.
        resume: keep finished windows in a hidden folder beside the output until it is complete, and go on from those
            of an earlier run of the same edit; the pixels are those of a run that was never interrupted.
        callback: called with a `LongProgress` after each step.

    Raises:
        InputError: anything of this that cannot be used, before a window is edited; the source changing meanwhile; a
            full disk.
        EditInterrupted: the callback returned False. Finished windows stay where `resume` is given.
    """
    options = options or LongOptions()
    check_instruction(instruction)
    settings = editor.settings(steps, shift, guidance_scale)
    initial_noise((1,), seed)
    if not is_video_file(readable_file(source)):
        raise InputError(f"{source}: it is a picture; give a video, or edit it with Editor.edit.")
    references = tuple(load_references(reference))
    files = [path for path in _listed(reference) if isinstance(path, (str, os.PathLike))]
    target = check_output(output, source, *files)
    footage = look_through(source)
    info = footage.info
    multiple = editor.codec.frame_multiple
    windows, overlap = options.plan(len(footage.pts), info.fps, editor.default_frames, multiple)
    request = Request(instruction, references, settings, seed, height, width)
    window_editor = WindowEditor(editor, request, options, overlap)
    window_editor.check(info.height, info.width)

    store = WindowStore(target)
    if resume:
        found = min(store.open(identity(editor, footage, request, options)), len(windows))
        run = _Run(footage, windows, window_editor, store, found, callback)
        reused = _write(run, store.output, footage)
        os.replace(store.output, target)
        store.remove()
    else:
        if store.exists:
            logger.warning(
                "%s: windows of an unfinished edit lie there; resume it, or delete the folder.", store.folder
            )
        reused = _write(_Run(footage, windows, window_editor, None, 0, callback), target, footage)
    return LongResult(target, tuple(windows), reused)


class _Run:
    """The windows of one edit in order, from the disk as far as they are there."""

    def __init__(
        self,
        footage: Footage,
        windows: Sequence[Window],
        editor: WindowEditor,
        store: WindowStore | None,
        found: int,
        callback: LongCallback | None,
    ) -> None:
        """found: windows at the beginning that the store seems to have."""
        self.footage = footage
        self.windows = windows
        self.editor = editor
        self.store = store
        self.found = found
        self.callback = callback
        self.reused = 0

    def __iter__(self) -> Iterator[EditedWindow]:
        given: Handover | None = None
        with ExitStack() as stack:
            sources: Iterator[Tensor] | None = None
            for index, window in enumerate(self.windows):
                edited = self._kept(index)
                if edited is None:
                    if sources is None:  # the first that is not there: all from here on are edited
                        self._read_once()
                        sources = stack.enter_context(closing(self.footage.read(self.windows[index:])))
                    edited = self.editor.edit(next(sources), given, self._callback(index))
                    if self.store is not None:
                        self.store.save(index, edited)
                yield edited
                if index + 1 < len(self.windows):
                    given = hand_over(edited, window, self.windows[index + 1], self.editor.temporal_stride)

    def _kept(self, index: int) -> EditedWindow | None:
        """A window of an earlier run; after the first that is damaged there are none, for they went on from it."""
        if self.store is None or index >= self.found:
            return None
        edited = self.store.load(index)
        if edited is None:
            self.found = index
        else:
            self.reused += 1
        return edited

    def _read_once(self) -> None:
        if self.editor.options.reading is Reading.WINDOW:
            return
        indices = sample_indices(len(self.footage.pts), self.editor.editor.config.guidance.video_frames).tolist()
        picked = self.footage.read(Window(index, index + 1, 0) for index in indices)
        self.editor.read_once([frames[0] for frames in picked])

    def _callback(self, index: int) -> Callable[..., object] | None:
        if self.callback is None:
            return None
        told, windows, reused = self.callback, len(self.windows), self.reused
        return lambda step, steps, _latents: told(LongProgress(index + 1, windows, reused, step, steps))


def _write(run: _Run, path: Path, footage: Footage) -> int:
    """Encode each window's final frames as soon as it is there; how many windows came from an earlier run."""
    last = len(footage.pts) - 1
    with VideoWriter(path, like=footage.info) as writer, closing(iter(run)) as edited_windows:
        for window, final, edited in zip(run.windows, final_frames(run.windows), edited_windows, strict=True):
            for index in final:
                duration = footage.last_duration if index == last else None
                writer.write(edited.frames[index - window.start], footage.pts[index], duration)
    return run.reused


def _listed(reference: Any) -> list[Any]:
    return list(reference) if isinstance(reference, (list, tuple)) else [reference]
