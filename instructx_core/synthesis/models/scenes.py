"""Split scenes with PySceneDetect's content detector; PySceneDetect is an optional dependency."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from ...errors import InputError

FPS = 24.0  # arbitrary: the detector's minimum scene length is in frames


class ContentScenes:
    """Raises InputError if PySceneDetect is not installed."""

    def __init__(self) -> None:
        try:
            import scenedetect  # noqa: F401
        except ImportError as error:
            raise InputError(
                f"experts.cuts: scenedetect needs PySceneDetect ({error}); run `pip install 'scenedetect>=0.7'`."
            ) from error

    def scenes(self, frames: Tensor) -> Sequence[tuple[int, int]]:
        from scenedetect import ContentDetector, FrameTimecode

        detector, found = ContentDetector(), set()
        for number, frame in enumerate(frames):
            picture = frame.flip(-1).contiguous().numpy()  # BGR, as in OpenCV
            found |= {cut.frame_num for cut in detector.process_frame(FrameTimecode(number, FPS), picture)}
        found |= {cut.frame_num for cut in detector.post_process(FrameTimecode(len(frames) - 1, FPS))}
        edges = [0, *sorted(cut for cut in found if 0 < cut < len(frames)), len(frames)]
        return list(pairwise(edges))
