"""Edit a video of any length window by window, from file to file (A.5).

look through -> plan -> for each window: decode -> edit -> keep (for resuming) -> encode final frames -> hand over

Memory holds only one window's frames and what it hands to the next, whatever the length of the video. `edit_video` is
for files, `edit_footage` for a host program's footage; both accept implementations of `WindowModel`, and functions as
`FrameEdit`.
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
from ..bounded import why
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
from .options import LongOptions, check_reading
from .run import EditsWindows, LongCallback, WindowCallback, WindowRun
from .store import WindowStore, logger
from .window_editor import WindowEditor
from .window_model import WindowModel

if TYPE_CHECKING:
    from ..editor import Editor


@dataclass(frozen=True)
class LongResult:
    """The result of a long edit."""

    path: Path
    windows: tuple[Window, ...]
    reused: int  # windows from an earlier, interrupted run


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
    """Edit a video file of any length into another file, which keeps its timestamps, sound, rotation and colour tags.

    Args:
        editor: a loaded model, any `WindowModel`, or a function `edit(frames, window) -> frames`, which takes float32
            [T, H, W, 3] in [0, 1] and a `Turn` and returns as many frames. Wrap a function in `FrameEdit` to say more
            about it, such as what its result depends on.
        source: a video file or an animated image.
        output: the file to write; it appears once it is complete, unless `growing`.
        request: the edit, or its parts, as in `Editor.edit`; only with an Editor. A video of one window gives the same
            result as `Editor.edit`, except for `options.anchor_colour` and a model's `keep_source`, which windows do
            without: a barely changed pixel does not become the source's own.
        options: how windows are planned and joined; None for the defaults.
        resume, growing, callback: see `edit_footage`.

    Raises:
        InputError: an argument cannot be used, or kept windows were made in another dtype or without VAE tiles (raised
            before a window is edited), the source changed meanwhile, the disk is full, or another run has the same
            output.
        EditInterrupted: the callback returned False. With `resume`, finished windows are kept.
    """
    options = options or LongOptions()
    check_cuts(options)
    model, files = _model(editor, request, parts, named)
    if not is_video_file(readable_file(source)):
        raise InputError(f"{source} is a picture; give a video, or edit it with Editor.edit.")
    target = check_output(output, source, *files)
    if resume:  # like the next line, a check before the whole source is decoded
        model.identity()
        WindowStore(target).manifest()
    _check_early(model, probe(source), options)
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
    """Edit a video with any model into a file.

    Args:
        model: a model with its request, or a function.
        footage: the source.
        output: a writable file name with a video suffix.
        options: how windows are planned and joined.
        resume: keep finished windows in a hidden folder next to the output until it is complete, and continue from
            those of an earlier run of the same edit; the result equals that of an uninterrupted run.
        growing: write the output under its final name from the first window on. At any time, even after a crash, it
            plays up to the frames that the last finished window shares with the next. An existing file is overwritten
            at once, and files are slightly larger. Otherwise the output appears once it is complete.
        callback: called with a `LongProgress` after each step.
        finished: called with the number and frames of each window that this run edits.

    Raises:
        InputError: windows or size do not suit the model, the output format cannot be written, or kept windows were
            made in another dtype or without VAE tiles (all raised before a window is edited); the source changed
            meanwhile, the disk is full, or another run has the same output.
        EditInterrupted: the callback returned False. With `resume`, finished windows are kept.
    """
    from .as_before import as_before  # imported here: only an edit needs these
    from .editor_model import EditorModel

    options = with_cuts(options, footage)
    windows, window_editor = plan_edit(model, footage, options)
    known = identity(model, footage, options) if resume else {}
    check_writer(output, footage.info, growing)
    with ExitStack() as stack:
        stack.enter_context(only_run(output))
        clear(output)
        store = WindowStore(output)
        if not resume:
            if store.exists:
                logger.warning("%s holds windows of an unfinished edit; resume it, or delete the folder.", store.folder)
            run = WindowRun(footage, windows, window_editor, None, 0, callback, finished)
            _write(run, output, growing)
            return LongResult(output, tuple(windows), 0)
        if isinstance(model, EditorModel):
            known = stack.enter_context(as_before(model, store, known))
        found = min(store.open(known), len(windows))
        if found:
            logger.info("%s: resuming after window %d of %d.", output, found, len(windows))
        run = WindowRun(footage, windows, window_editor, store, found, callback, finished)
        if growing:
            _write(run, output, growing)
        else:
            _write(run, store.output, growing)
            _rename(store.output, output)
        store.remove()
    return LongResult(output, tuple(windows), run.reused)


def identity(model: WindowModel | FrameEdit, footage: Footage, options: LongOptions) -> dict[str, Any]:
    """Everything that the edited pixels depend on, as JSON values: runs with equal values can share windows."""
    length = {"default_frames": model.default_frames} if options.window is None else {}
    return {"source": footage.sha256, **model.identity(), **options.as_plain(), **length}


def plan_edit(
    model: WindowModel | FrameEdit, footage: Footage, options: LongOptions
) -> tuple[list[Window], EditsWindows]:
    """Return the windows of an edit and their editor.

    Raises:
        InputError: windows, options or frame size do not suit the model, or exceed free memory.
    """
    _check_size(model, footage.info, options)
    windows, overlap = _windows(model, len(footage.pts), footage.info.fps, options)
    return windows, _window_editor(model, options, overlap)


def _model(
    editor: object,
    request: EditRequest | str | None,
    parts: Sequence[Any],
    named: Mapping[str, Any],
) -> tuple[WindowModel | FrameEdit, tuple[Path, ...]]:
    """Return the model or function for the windows, and the files that the request names.

    Raises:
        InputError: the request cannot be used, the editor takes no request, or it is not an editor.
    """
    from ..editor import Editor  # imported here: a host with its own models, such as ComfyUI, does not need it
    from .editor_model import EditorModel

    if isinstance(editor, Editor):
        asked = as_request(request, *parts, **named)
        return EditorModel(editor, asked), asked.files
    if request is not None or parts or named:
        raise InputError("A request is only for an Editor; your own function or model already contains its edit.")
    if isinstance(editor, FrameEdit) or isinstance(getattr(editor, "frame_multiple", None), int):
        return editor, ()
    if callable(editor):
        return FrameEdit(editor), ()
    raise InputError(f"editor is {shown(editor)}; give an Editor, or a function edit(frames, window) -> frames.")


def _windows(
    model: WindowModel | FrameEdit, frames: int, fps: Fraction, options: LongOptions
) -> tuple[list[Window], int]:
    """The windows of a video, and the number of frames that two of them share. Raises InputError as `plan_edit`."""
    if not isinstance(model, FrameEdit):
        return options.plan(frames, fps, model.default_frames, model.frame_multiple)
    length = options.length(fps, model.default_frames, model.frame_multiple)
    asked = options.window is not None and options.window.frames(fps) >= 1
    exact = replace(options, window=Span(Fraction(length))) if asked else options
    return exact.plan(frames, fps, length, 1)  # without latents, windows need no alignment


def _window_editor(model: WindowModel | FrameEdit, options: LongOptions, overlap: int) -> EditsWindows:
    """The editor of the windows. Raises InputError if the model, or its request, does not go with the options."""
    from .editor_model import EditorModel  # imported here, as in `edit_footage`

    if isinstance(model, EditorModel):
        check_reading(options, *model.requests)
    kind = FrameEditor if isinstance(model, FrameEdit) else WindowEditor
    return kind(model, options, overlap)


def _check_early(model: WindowModel | FrameEdit, info: VideoInfo, options: LongOptions) -> None:
    """Raise InputError for what needs no frames: all of `plan_edit`'s checks except for cuts and lengths in seconds."""
    _check_size(model, info, options)
    _window_editor(model, options, overlap=0)
    if not any(span is not None and span.in_seconds for span in (options.window, options.overlap)):
        _windows(model, 1, info.fps, replace(options, cuts=()))


def _check_size(model: WindowModel | FrameEdit, info: VideoInfo, options: LongOptions) -> None:
    """Raise InputError if the model does not take frames of this size, or one window does not fit into memory."""
    if not isinstance(model, FrameEdit):
        model.fit(1, (info.height, info.width))
    length = options.length(info.fps, model.default_frames, model.frame_multiple)
    frames = min(length, info.frames or length)
    check_room(str(info.path), info.width, info.height, frames, "scale it down, or give a shorter window")


def _write(run: WindowRun, path: Path, growing: bool) -> None:
    """Encode each frame as soon as it is final."""
    footage = run.footage
    last = len(footage.pts) - 1
    with ExitStack() as stack, closing(run.frames()) as frames:
        writer: VideoWriter | None = None
        for index, frame in frames:
            if writer is None:  # only now, as a function may have changed the size
                writer = stack.enter_context(VideoWriter(path, like=_resized(footage.info, frame), growing=growing))
            writer.write(frame, footage.pts[index], footage.last_duration if index == last else None)


def _rename(finished: Path, output: Path) -> None:
    """Give the finished video its name. Raises InputError if something is in the way, such as a player on Windows."""
    try:
        os.replace(finished, output)
    except OSError as error:
        raise InputError(
            f"{output}: the finished video cannot get its name ({why(error)}); free the name, and resume."
        ) from error


def _resized(info: VideoInfo, frame: Tensor) -> VideoInfo:
    """A video's info, with the size of an edited frame."""
    return replace(info, height=frame.shape[0], width=frame.shape[1])
