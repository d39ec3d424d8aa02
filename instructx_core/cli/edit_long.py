"""Long videos in `instructx edit`: their options, and editing window by window.

A video is edited in windows if one of these options is given or if it has more than 81 frames. Shorter clips are edited
in one go, like pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..config import Detail
from ..errors import InputError
from ..windows import Cuts, Head, Reading, Span, parse_cuts
from ..words import shown
from .options import load_editor
from .printing import complain
from .progress import Progress

if TYPE_CHECKING:
    from ..long_video import LongOptions, LongProgress
    from ..request import EditRequest

CLIP = 81  # frames that any model takes in one go: the paper's window

LONG_EXAMPLES = """\
long videos, in windows that continue each other:
  instructx edit long.mp4 "make it grayscale" -o out.mp4 --window 5s --resume

With --resume, finished windows are kept next to the output until it is complete, even after a crash: run the same
command again to continue. Windows and overlaps are rounded to a length that the VAE takes (1 + 4 n frames for Wan's).
"""


def add_long_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for long videos; all default to None, which shows whether one was given."""
    group = parser.add_argument_group("long videos")
    group.add_argument(
        "--window",
        metavar="LENGTH",
        type=_span,
        help="length to edit at a time, in seconds (5s) or frames (33f) (default: as trained)",
    )
    group.add_argument(
        "--overlap",
        metavar="LENGTH",
        type=_span,
        help="length that two windows share: 1f as in the paper, more to fade one into the next, or 0 (default: 5f, or "
        "1f if windows are no longer than that)",
    )
    group.add_argument(
        "--head",
        choices=[head.value for head in Head],
        help="how a window continues from the end of the previous one: pin that frame in the noisy latents, put it in "
        "place of the source's (as in the paper), or pin its latent, never decoded (default: pin)",
    )
    group.add_argument(
        "--guidance-from",
        dest="reading",
        choices=[reading.value for reading in Reading],
        help="what the MLLM sees: each window, or frames of the whole video, once (default: window)",
    )
    group.add_argument(
        "--cuts",
        metavar="N,N,..",
        type=_cuts,
        help="first frames of new scenes, where windows start afresh; auto: detect them (needs PySceneDetect)",
    )
    group.add_argument(
        "--free-colour",
        action="store_const",
        const=True,
        help="do not keep the colour of unedited pixels at the source's",
    )
    group.add_argument(
        "--resume", action="store_const", const=True, help="keep finished windows, and continue from an earlier run's"
    )
    group.add_argument(
        "--growing",
        action="store_const",
        const=True,
        help="write the output as windows finish, playable up to the last one (default: write it at the end)",
    )


def is_long(arguments: argparse.Namespace) -> bool:
    """True if the source has to be edited in windows.

    Raises:
        InputError: a video that cannot be read, or a long-video option for a picture.
    """
    from ..source import is_video_file
    from ..video import has_more_frames

    asked = any(_given(arguments).values())
    if not is_video_file(arguments.source):
        if asked:
            named = ", ".join(f"--{name.replace('_', '-')}" for name, value in _given(arguments).items() if value)
            raise InputError(f"{arguments.source}: it is a picture, and {named} is for videos; leave it out.")
        return False
    return asked or has_more_frames(arguments.source, CLIP)


def edit_in_windows(arguments: argparse.Namespace, request: EditRequest) -> None:
    """Edit `arguments.source` in windows."""
    from ..long_video import edit_video
    from ..long_video.cuts import check_cuts
    from ..long_video.options import check_reading
    from ..video import probe

    options = _options(arguments)
    check_cuts(options)  # like the next two lines, to fail before a model is loaded
    check_reading(options, request)
    probe(arguments.source)
    with Progress("editing") as progress:
        try:
            result = edit_video(
                load_editor(arguments),
                arguments.source,
                arguments.output,
                request,
                options=options,
                resume=bool(arguments.resume),
                growing=bool(arguments.growing),
                callback=lambda at: progress(*_told(at)),
            )
        except KeyboardInterrupt:
            if arguments.resume:
                complain("")  # below the bar
                complain("instructx: finished windows are kept; run the same command to continue.")
            raise
    if result.reused:
        complain(f"{result.reused} of {len(result.windows)} windows were reused from an earlier run.")


def _told(at: LongProgress) -> tuple[int, int, str]:
    """Steps done by this run, its total steps, and the current window in words."""
    done = (at.window - 1 - at.reused) * at.steps + at.step
    return done, (at.windows - at.reused) * at.steps, f"window {at.window} of {at.windows}"


def _options(arguments: argparse.Namespace) -> LongOptions:
    from ..long_video import LongOptions

    given = {"window": arguments.window, "overlap": arguments.overlap, "cuts": arguments.cuts}
    given |= {"head": arguments.head and Head(arguments.head)}
    given |= {"reading": arguments.reading and Reading(arguments.reading)}
    chosen = {name: value for name, value in given.items() if value is not None}
    return LongOptions(**chosen, anchor_colour=not arguments.free_colour, detail=Detail(arguments.detail))


def _given(arguments: argparse.Namespace) -> dict[str, bool]:
    names = {"window", "overlap", "head", "reading", "cuts", "free_colour", "resume", "growing"}
    shown = {"reading": "guidance_from"}
    return {shown.get(name, name): getattr(arguments, name) is not None for name in sorted(names)}


def _span(text: str) -> Span:
    return _parsed(Span.parse, text)


def _cuts(text: str) -> Cuts:
    return _parsed(parse_cuts, text)


def _parsed(parse: Callable[[str], Any], text: str) -> Any:
    """Parse an option's text; errors become argparse's, which names the option."""
    try:
        return parse(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    except ValueError as error:  # a number with thousands of digits
        raise argparse.ArgumentTypeError(f"{shown(text)} has too many digits") from error
