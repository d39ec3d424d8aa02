"""Deinterlace video: a frame of two fields, taken at different times, becomes a full frame of the first time.

Editing a combed frame would edit the comb: the model sees two pictures in one, and the result is written as
progressive. FFmpeg's bwdif rebuilds the second field's lines from their neighbours in space and time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av import VideoFrame
    from av.filter import Graph


def progressive(frames: Iterator[VideoFrame], found: Callable[[], object]) -> Iterator[VideoFrame]:
    """Deinterlace the frames that are marked as interlaced, keeping the number of frames and their times.

    Args:
        frames: decoded; those before the first interlaced one pass through untouched.
        found: called once, at the first interlaced frame.
    """
    graph: Graph | None = None
    form: tuple[int, int, str] | None = None
    waiting: deque[VideoFrame] = deque()  # in the filter, which looks one frame ahead
    for frame in frames:
        if graph is None and not _is_interlaced(frame):
            yield frame
            continue
        if form is None:
            found()
        if form != (form := (frame.width, frame.height, frame.format.name)):
            if graph is not None:
                yield from _through(graph, None, waiting)
            graph = _bwdif(frame)
        waiting.append(frame)
        yield from _through(graph, frame, waiting)
    if graph is not None:
        yield from _through(graph, None, waiting)


def _is_interlaced(frame: VideoFrame) -> bool:
    return frame.interlaced_frame and frame.width >= 3 and frame.height >= 4  # bwdif's minimum


def _bwdif(like: VideoFrame) -> Graph:
    from av.filter import Graph

    graph = Graph()
    graph.link_nodes(
        graph.add_buffer(width=like.width, height=like.height, format=like.format, time_base=like.time_base),
        graph.add("bwdif", "mode=send_frame:deint=interlaced"),
        graph.add("buffersink"),
    ).configure()
    return graph


def _through(graph: Graph, frame: VideoFrame | None, waiting: deque[VideoFrame]) -> Iterator[VideoFrame]:
    """Push a frame (None: the end) and yield what comes out, with the times of the frames that went in."""
    import av

    graph.push(frame)
    while waiting:
        try:
            made = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        was = waiting.popleft()
        made.pts, made.time_base = was.pts if was.pts is not None else was.dts, was.time_base
        if hasattr(was, "duration"):  # older PyAV does not say
            made.duration = was.duration
        yield made
