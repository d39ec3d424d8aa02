"""The side data of decoded frames: rotation, mastering display, captions."""

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
_FIRST_UNNAMED, _UNNAMED_END = 28, 64  # kinds of FFmpeg's side data without a name in PyAV 18, and some to come


def side_data(frame: VideoFrame) -> Mapping[str, bytes]:
    """A frame's side data under PyAV's names; kinds without a name are left out.

    PyAV refuses all side data of a frame if one kind is unknown to it, such as EXIF, so these are removed.
    """
    try:
        found = frame.side_data
    except ValueError:
        found = _without_unnamed(frame).side_data
    return {data.type.name: bytes(data) for data in found}


def display_matrix(found: Mapping[str, bytes]) -> DisplayMatrix | None:
    """The display matrix in a frame's side data; None if the frame is shown as stored."""
    data = found.get("DISPLAYMATRIX")
    matrix = tuple(np.frombuffer(data, dtype=np.int32).tolist()) if data is not None else _IDENTITY
    return None if matrix == _IDENTITY else matrix


def _without_unnamed(frame: VideoFrame) -> VideoFrame:
    """The frame without unnamed kinds of side data, which FFmpeg's filter deletes by number."""
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
