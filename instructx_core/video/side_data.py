"""What a decoded frame carries beside its pixels: how it is turned, what display it was mastered on, captions."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from .info import DisplayMatrix

if TYPE_CHECKING:
    from av import VideoFrame

_IDENTITY = (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
_FIRST_UNNAMED, _UNNAMED_END = 28, 64  # FFmpeg's kinds of side data that PyAV 18 has no names for, and some to come


def side_data(frame: VideoFrame) -> Mapping[str, bytes]:
    """The side data of a frame by the names that PyAV has for them; kinds without a name are left out.

    PyAV refuses all of a frame's side data where one kind is unknown to it, such as EXIF, so these are taken off.
    """
    try:
        found = frame.side_data
    except ValueError:
        found = _without_unnamed(frame).side_data
    return {data.type.name: bytes(data) for data in found}


def display_matrix(found: Mapping[str, bytes]) -> DisplayMatrix | None:
    """How a stored frame with this side data is shown; None: unchanged."""
    data = found.get("DISPLAYMATRIX")
    matrix = tuple(np.frombuffer(data, dtype=np.int32).tolist()) if data is not None else _IDENTITY
    return None if matrix == _IDENTITY else matrix


def _without_unnamed(frame: VideoFrame) -> VideoFrame:
    """The same frame after FFmpeg's filter that deletes side data by the number of its kind."""
    from av.filter import Graph

    graph = Graph()
    time_base = frame.time_base or Fraction(1, 1000)
    nodes = [graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=time_base)]
    nodes += [graph.add("sidedata", f"mode=delete:type={kind}") for kind in range(_FIRST_UNNAMED, _UNNAMED_END)]
    nodes.append(graph.add("buffersink"))
    for node, following in pairwise(nodes):
        node.link_to(following)
    graph.configure()
    graph.push(frame)
    return graph.pull()
