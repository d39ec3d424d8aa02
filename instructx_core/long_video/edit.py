"""A video of any length, edited window by window from file to file (A.5).

look through -> plan -> for each window: decode -> edit -> keep (if asked) -> encode what is final -> hand over

Memory holds one window's frames and what it hands to the next, whatever the length of the video. `edit_video` is for
files, `edit_footage` for a host's own footage; both take the library's models, those that fill `WindowModel`, and any
function as a `FrameEdit`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..atomic import clear
from ..errors import InputError
from ..main_memory import check_room
from ..paths import readable_file
from ..request import EditRequest, as_request
from ..run_lock import only_run
from ..source import check_output, is_video_file
from ..video import VideoInfo, VideoWriter, check_writer, probe
from ..windows import Span, Window
from ..words import shown
from .cuts import check_cuts, with_cuts
from .footage import Footage, look_through
from .frame_edit import EditFunction, FrameEdit, FrameEditor
from .options import LongOptions
from .run import EditsWindows, LongCallback, WindowCallback, WindowRun
from .store import WindowStore, logger
from .window_editor import WindowEditor
from .window_model import WindowModel

if TYPE_CHECKING:
    from ..editor import Editor


@dataclass(frozen=True)
class LongResult:
    """What a long edit has written."""

    path: Path
    windows: tuple[Window, ...]
    reused: int  # windows that came from an earlier, interrupted run


def edit_video(
    editor: Editor | WindowModel | FrameEdit | EditFunction,
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    request: EditRequest | str | None = None,
    *parts: Any,
    options: LongOptions | None = None,
    resume: bool = False,
    growing: bool = False,
    callback: LongCallback | None = None,
    **named: Any,
) -> LongResult:
    """Edit a video file of any length into another file, which keeps its times, sound, rotation and colour tags.

    Args:
        editor: what edits: a loaded model, anything that fills `WindowModel`, or a function
            `edit(frames, window) -> frames`, which takes float32 [T, H, W, 3] in [0, 1] and a `Turn` and gives as many
            frames; `FrameEdit` says more about a function, as what finished windows depend on.
        source: a video file, or an animated image.
        output: the file to write; it appears when it is complete, unless it is `growing`.
        request: what an Editor is asked for, or its parts, as in `Editor.edit`. A video of one window comes out as from
            there, but for `options.anchor_colour`. Of the others, all is in the model or the function.
        options: how windows are laid and joined; None for the defaults.
        resume, growing, callback: as `edit_footage`.

    Raises:
        InputError: anything of this that cannot be used, before a window is edited; the source changing meanwhile; a
            full disk; another run at the same output.
        EditInterrupted: the callback returned False. Finished windows stay where `resume` is given.
    """
    options = options or LongOptions()
    check_cuts(options)
    model, files = _model(editor, request, parts, named)
    if not is_video_file(readable_file(source)):
        raise InputError(f"{source}: it is a picture; give a video, or edit it with Editor.edit.")
    target = check_output(output, source, *files)
    if resume:
        model.identity()  # before all of it is decoded, as the size
    _check_size(model, probe(source), options)  # before all of it is decoded
    return edit_footage(model, look_through(source), target, options, resume, growing, callback)


def edit_footage(
    model: WindowModel | FrameEdit,
    footage: Footage,
    output: Path,
    options: LongOptions,
    resume: bool = False,
    growing: bool = False,
    callback: LongCallback | None = None,
    finished: WindowCallback | None = None,
) -> LongResult:
    """Edit a video by any model into a file.

    Args:
        model: the request and what does it, or a function.
        footage: the source.
        output: a file name that can be written to, with the suffix of a video.
        options: how windows are laid and joined.
        resume: keep finished windows in a hidden folder beside the output until it is complete, and continue from those
            of an earlier run of the same edit; the pixels are those of a run that was never interrupted.
        growing: write the output under its own name from the first window on: at any time, also after a crash, it plays
            up to what the last finished window shares with the next. What stood there is lost then. Files are a little
            larger. Otherwise the output appears when it is complete.
        callback: called with a `LongProgress` after each step.
        finished: called after each window that this run edits, with its number and frames.

    Raises:
        InputError: windows or a size that do not suit, or an output that cannot be written in its format, before a
            window is edited; the source changing meanwhile; a full disk; another run at the same output.
        EditInterrupted: the callback returned False. Finished windows stay where `resume` is given.
    """
    options = with_cuts(options, footage)
    windows, window_editor = plan_edit(model, footage, options)
    known = identity(model, footage, options) if resume else {}
    check_writer(output, footage.info, growing)
    with only_run(output):
        clear(output)
        store = WindowStore(output)
        if not resume:
            if store.exists:
                logger.warning(
                    "%s: windows of an unfinished edit lie there; resume it, or delete the folder.", store.folder
                )
            run = WindowRun(footage, windows, window_editor, None, 0, callback, finished)
            _write(run, output, growing)
            return LongResult(output, tuple(windows), 0)
        found = min(store.open(known), len(windows))
        if found:
            logger.info("%s: going on after window %d of %d.", output, found, len(windows))
        run = WindowRun(footage, windows, window_editor, store, found, callback, finished)
        if growing:
            _write(run, output, growing)
        else:
            _write(run, store.output, growing)
            os.replace(store.output, output)
        store.remove()
    return LongResult(output, tuple(windows), run.reused)


def identity(model: WindowModel | FrameEdit, footage: Footage, options: LongOptions) -> dict[str, Any]:
    """Everything that the edited pixels depend on, as JSON values: two runs with equal values may share windows."""
    return {"source": footage.sha256, **model.identity(), **options.as_plain()}


def plan_edit(
    model: WindowModel | FrameEdit, footage: Footage, options: LongOptions
) -> tuple[list[Window], EditsWindows]:
    """The windows of an edit, and what edits them.

    Raises:
        InputError: windows, options, or a size of frames, that do not suit the model or the memory that is free.
    """
    info = footage.info
    _check_size(model, info, options)
    if isinstance(model, FrameEdit):  # it has no latents on which windows must meet
        length = options.length(info.fps, model.default_frames, model.frame_multiple)
        asked = options.window is not None and options.window.frames(info.fps) >= 1
        exact = replace(options, window=Span(Fraction(length))) if asked else options
        windows, overlap = exact.plan(len(footage.pts), info.fps, length, 1)
        return windows, FrameEditor(model, options, overlap)
    windows, overlap = options.plan(len(footage.pts), info.fps, model.default_frames, model.frame_multiple)
    return windows, WindowEditor(model, options, overlap)


def _model(
    editor: object, request: EditRequest | str | None, parts: Sequence[Any], named: Mapping[str, Any]
) -> tuple[WindowModel | FrameEdit, tuple[Path, ...]]:
    """What edits the windows, and files that belong to the request.

    Raises:
        InputError: a request that cannot be used, or one for what takes none; an editor that is nothing of the kind.
    """
    from ..editor import Editor  # here: a host with models of its own, as ComfyUI, needs no Editor
    from .editor_model import EditorModel

    if isinstance(editor, Editor):
        asked = as_request(request, *parts, **named)
        return EditorModel(editor, asked), asked.files
    if request is not None or parts or named:
        raise InputError("A request is for an Editor; a function or a model of your own has it within already.")
    if isinstance(editor, FrameEdit) or isinstance(getattr(editor, "frame_multiple", None), int):
        return editor, ()
    if callable(editor):
        return FrameEdit(editor), ()
    raise InputError(f"editor is {shown(editor)}; give an Editor, or a function edit(frames, window) -> frames.")


def _check_size(model: WindowModel | FrameEdit, info: VideoInfo, options: LongOptions) -> None:
    """Raise InputError where the model takes no frames of this size, or memory not those of one window."""
    if not isinstance(model, FrameEdit):
        model.fit(1, (info.height, info.width))
    length = options.length(info.fps, model.default_frames, model.frame_multiple)
    frames = min(length, info.frames or length)
    check_room(str(info.path), info.width, info.height, frames, "scale it down, or give a shorter window")


def _write(run: WindowRun, path: Path, growing: bool) -> None:
    """Encode each frame once it is final."""
    footage = run.footage
    last = len(footage.pts) - 1
    with ExitStack() as stack, closing(run.frames()) as frames:
        writer: VideoWriter | None = None
        for index, frame in frames:
            if writer is None:  # with the first frame, because a function may have changed the size
                writer = stack.enter_context(VideoWriter(path, like=_resized(footage.info, frame), growing=growing))
            writer.write(frame, footage.pts[index], footage.last_duration if index == last else None)


def _resized(info: VideoInfo, frame: Tensor) -> VideoInfo:
    """What a video says about itself, at the size of an edited frame."""
    return replace(info, height=frame.shape[0], width=frame.shape[1])
