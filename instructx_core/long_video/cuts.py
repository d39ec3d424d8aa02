"""Find scene cuts with PySceneDetect, an optional dependency."""

from __future__ import annotations

from dataclasses import replace

from ..errors import InputError
from ..windows import AUTO_CUTS, Window
from .footage import Footage
from .options import LongOptions

LOOKED_AT = 256  # pixels kept of the longer side, at least, when subsampling: a cut changes the whole frame


def check_cuts(options: LongOptions) -> None:
    """Raise InputError if cuts are "auto" and PySceneDetect is not installed."""
    if options.cuts != AUTO_CUTS:
        return
    try:
        import scenedetect  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"cuts: auto needs PySceneDetect ({error}); run `pip install 'scenedetect>=0.7'`, or give frames: 120,480."
        ) from error


def with_cuts(options: LongOptions, footage: Footage) -> LongOptions:
    """Replace cuts "auto" in the options by the cuts found.

    Raises:
        InputError: see `check_cuts`.
    """
    check_cuts(options)
    return replace(options, cuts=find_cuts(footage)) if options.cuts == AUTO_CUTS else options


def find_cuts(footage: Footage) -> tuple[int, ...]:
    """The first frame of each scene after the first, from PySceneDetect's content detector with default settings."""
    from scenedetect import ContentDetector, FrameTimecode

    detector, fps = ContentDetector(), float(footage.info.fps)
    step = max(1, max(footage.info.width, footage.info.height) // LOOKED_AT)
    found: set[int] = set()
    number = 0
    for number, frames in enumerate(footage.read(Window(i, i + 1, 0) for i in range(len(footage.pts)))):
        picture = frames[0, ::step, ::step].flip(-1).contiguous().numpy()  # BGR, as in OpenCV
        found |= {cut.frame_num for cut in detector.process_frame(FrameTimecode(number, fps), picture)}
    found |= {cut.frame_num for cut in detector.post_process(FrameTimecode(number, fps))}
    return tuple(sorted(cut for cut in found if 0 < cut < len(footage.pts)))
