"""Frames out of video files and animated images, each decoded once."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ..errors import InputError
from ..images import is_animated, open_picture, read_image, to_uint8
from ..paths import readable_file
from .colour import colour_of, frame_to_rgb
from .container import clock_start, not_readable, open_media
from .info import DisplayMatrix, VideoInfo, is_turned, upright

if TYPE_CHECKING:
    from typing import Self

    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream
    from PIL import Image

logger = logging.getLogger(__name__)

TimedFrames = Iterator[tuple[Tensor, int, int]]  # uint8 [H, W, 3], timestamp and duration in units of the time base
_MILLISECOND = Fraction(1, 1000)
_IDENTITY = (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """Read what a video says about itself; decodes its first frame only. Raises InputError as `VideoReader` does."""
    with VideoReader(path) as reader:
        return reader.info


class VideoReader:
    """The frames of a video file in order, upright, as uint8 RGB. One pass: open the file again to start over.

        with VideoReader("clip.mp4") as reader:
            for frame, pts in reader:     # uint8 [H, W, 3]; pts in units of reader.info.time_base, increasing

    Attributes:
        info: what the file says about itself.
        frame_duration: how long the frame last handed out is shown, in units of the time base.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open a video or an animated image and decode its first frame.

        Raises InputError when the file is missing, is no video, holds only sound, or no frame of it can be decoded.
        """
        file = readable_file(path)
        with ExitStack() as stack:
            picture = open_picture(file)
            if picture is None:
                self.info, self._frames = _open_video(file, stack)
            else:
                self.info, self._frames = _open_animation(file, stack.enter_context(picture))
            self._open = stack.pop_all()
        self.frame_duration = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._open.close()

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        last = None
        for frame, pts, duration in self._frames:
            last = pts if last is None else max(pts, last + 1)  # damaged clocks stand still or jump back
            self.frame_duration = duration
            yield frame, last


# --- videos, through PyAV


def _open_video(path: Path, stack: ExitStack) -> tuple[VideoInfo, TimedFrames]:
    """Open a video and decode up to its first frame; `stack` closes it."""
    import av

    try:
        container = stack.enter_context(open_media(path))
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{path}: {not_readable(error)}") from error
    stream = _picture_stream(path, container)
    decoded = _decode(path, container, stream)
    first = next(decoded, None)
    if first is None:
        raise InputError(f"{path}: no frame of this video can be decoded; it is empty, damaged or cut off.")
    info = _describe(path, container, stream, first)
    return info, _to_rgb(chain([first], decoded), info, stream, clock_start(container))


def _picture_stream(path: Path, container: InputContainer) -> VideoStream:
    """The first video stream that is not a cover picture."""
    from av.stream import Disposition

    streams = [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]
    if not streams:
        what = "only sound" if container.streams.audio else "no pictures"
        raise InputError(f"{path}: it holds {what}; give a file with video.")
    if streams[0].codec_context is None:
        raise InputError(f"{path}: its video codec is unknown to this FFmpeg; convert it to H.264 first.")
    streams[0].thread_type = "AUTO"
    return streams[0]


def _decode(path: Path, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """All frames that can be decoded; one warning at the end counts the packets that could not."""
    import av

    packets, damaged = container.demux(stream), 0
    while True:
        try:
            packet = next(packets, None)
            frames = packet.decode() if packet is not None else []
            damaged += packet is not None and packet.is_corrupt  # cut off, yet decoded as far as it goes
        except av.FFmpegError:  # of the decoder: the next packet may do; of the file: `packets` is at its end now
            damaged += 1
            continue
        yield from frames
        if packet is None:
            break
    with suppress(av.FFmpegError):  # the end of a file is already flushed; a break in it is not
        yield from stream.codec_context.decode(None)
    if damaged:
        logger.warning("%s: %d damaged packets of video were skipped.", path, damaged)


def _describe(path: Path, container: InputContainer, stream: VideoStream, first: VideoFrame) -> VideoInfo:
    matrix = _display_matrix(first)
    width, height = (first.height, first.width) if is_turned(matrix) else (first.width, first.height)
    return VideoInfo(
        path=path,
        width=width,
        height=height,
        frames=stream.frames or None,
        fps=Fraction(stream.average_rate or stream.guessed_rate or 25),
        time_base=Fraction(stream.time_base),
        has_audio=bool(container.streams.audio),
        rotation=round(first.rotation / 90) * 90 % 360 if matrix else 0,
        display_matrix=matrix,
        pixel_aspect=Fraction(stream.sample_aspect_ratio or 1),
        colour=colour_of(first, stream.codec_context),
    )


def _display_matrix(frame: VideoFrame) -> DisplayMatrix | None:
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # this frame carries side data of a kind that PyAV has no name for
        return None
    matrix = tuple(np.frombuffer(bytes(data), dtype=np.int32).tolist()) if data is not None else _IDENTITY
    return None if matrix == _IDENTITY else matrix


def _to_rgb(frames: Iterator[VideoFrame], info: VideoInfo, stream: VideoStream, start: Fraction) -> TimedFrames:
    from av.video.reformatter import VideoReformatter

    scaler = VideoReformatter()
    width, height = (info.height, info.width) if is_turned(info.display_matrix) else (info.width, info.height)
    period = max(1, round(1 / (info.fps * info.time_base)))
    offset, expected = round(start / info.time_base), 0
    for frame in frames:
        stamp = frame.pts if frame.pts is not None else frame.dts
        pts = expected if stamp is None else stamp - offset  # raw streams have no clock: frames follow each other
        duration = getattr(frame, "duration", None) or period  # older PyAV does not say
        expected = pts + duration
        colour = colour_of(frame, stream.codec_context)
        yield upright(frame_to_rgb(frame, colour, width, height, scaler), info.display_matrix), pts, duration


# --- animated images, through Pillow


def _open_animation(path: Path, picture: Image.Image) -> tuple[VideoInfo, TimedFrames]:
    if not is_animated(picture):
        raise InputError(f"{path}: it is a single picture; give a video.")
    frames = _animation_frames(path, picture)
    first = next(frames)
    height, width = first[0].shape[:2]
    info = VideoInfo(path, width, height, picture.n_frames, Fraction(1000, first[2]), _MILLISECOND)
    return info, chain([first], frames)


def _animation_frames(path: Path, picture: Image.Image) -> TimedFrames:
    pts = 0
    for index in range(picture.n_frames):
        try:
            picture.seek(index)
            frame = to_uint8(read_image(picture, str(path)))
        except (EOFError, InputError) as error:
            if index == 0:
                raise InputError(f"{path}: no frame of this animation can be decoded; it is damaged.") from error
            logger.warning("%s: the animation breaks off after %d of %d frames.", path, index, picture.n_frames)
            return
        delay = round(picture.info.get("duration") or 0)
        delay = delay if delay >= 20 else 100  # as browsers show it: shorter ones are files that meant "no delay given"
        yield frame, pts, delay
        pts += delay
