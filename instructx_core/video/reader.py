"""Read the frames of video files and animated images, each decoded once.

Whatever an edit cannot keep of a file, or has to convert, is logged once, when first met: alpha (composited on white),
interlacing, more than 8 bits, captions and the like inside the frames, a changing size.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from ..errors import InputError
from ..images import frame_count, is_animated, open_picture, read_pixels, to_uint8
from ..main_memory import check_room
from ..paths import readable_file
from .colour import colour_of, frame_to_pixels, on_white
from .container import clock_start, not_readable, open_media
from .deinterlace import progressive
from .hdr import hdr_of
from .info import VideoInfo, is_turned, upright
from .side_data import display_matrix, side_data

if TYPE_CHECKING:
    from typing import Self

    from av import VideoFrame
    from av.container import InputContainer
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream
    from PIL import Image

logger = logging.getLogger(__name__)

TimedFrames = Iterator[tuple[Tensor, int, int]]  # uint8 [H, W, 3], timestamp and duration in units of the time base
Say = Callable[..., None]  # a logger's method
MOST_GUESSED = 60  # frames per second
_MILLISECOND = Fraction(1, 1000)
# Side data of frames that is passed to no encoder, in words.
_LOST = {
    "A53_CC": "closed captions",
    "DOVI_METADATA": "Dolby Vision metadata",
    "DOVI_RPU_BUFFER": "Dolby Vision metadata",
    "DYNAMIC_HDR_PLUS": "HDR10+ metadata",
    "DYNAMIC_HDR_VIVID": "HDR Vivid metadata",
    "ICC_PROFILE": "colour profile",
    "SPHERICAL": "tag for a spherical view",
    "STEREO3D": "tag for stereoscopic 3D",
}
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own decoders of these ignore alpha


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """Read a video's properties, decoding only its first frame. Raises InputError as `VideoReader` does."""
    with VideoReader(path, quiet=True) as reader:
        return reader.info


class VideoReader:
    """The frames of a video file in order, upright, as uint8 RGB. One pass: open the file again to start over.

        with VideoReader("clip.mp4") as reader:
            for frame, pts in reader:     # uint8 [H, W, 3]; pts in units of reader.info.time_base, increasing

    Attributes:
        info: the file's properties.
        frame_duration: how long the last frame returned is shown, in units of the time base.
    """

    def __init__(self, path: str | os.PathLike[str], quiet: bool = False) -> None:
        """Open a video or an animated image and decode its first frame.

        Args:
            path: the file.
            quiet: log no warnings, because the file is read a second time.

        Raises InputError if the file is missing, is not a video, holds only sound, or no frame of it can be decoded.
        """
        file = readable_file(path)
        say = logger.debug if quiet else logger.warning
        with ExitStack() as stack:
            picture = open_picture(file)
            if picture is None:
                self.info, self._frames = _open_video(file, stack, say)
            else:
                self.info, self._frames = _open_animation(file, stack.enter_context(picture), say)
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


def _open_video(path: Path, stack: ExitStack, say: Say) -> tuple[VideoInfo, TimedFrames]:
    """Open a video and decode its first frame; `stack` closes it."""
    import av

    try:
        container = stack.enter_context(open_media(path))
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{path}: {not_readable(error)}") from error
    stream = _picture_stream(path, container)
    check_room(str(path), stream.codec_context.width, stream.codec_context.height)
    decoded = _decode(path, container, stream, say)
    first = next(decoded, None)
    if first is None:
        raise InputError(f"{path}: no frame of this video can be decoded; it is empty, damaged or cut off.")
    info = _describe(path, container, stream, first)
    frames = progressive(
        _watched(path, chain([first], decoded), say),
        lambda: say("%s: it is interlaced; its edit will be progressive (deinterlaced).", path),
    )
    return info, _to_rgb(frames, info, stream, clock_start(container), say)


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


def _decode(path: Path, container: InputContainer, stream: VideoStream, say: Say) -> Iterator[VideoFrame]:
    """All frames that can be decoded; one warning at the end counts the packets that could not."""
    import av

    decoder = _decoder(path, stream, say)
    packets, damaged, any_frame = container.demux(stream), 0, False
    while True:
        try:
            packet = next(packets, None)
            frames = decoder.decode(packet) if packet is not None else []
            damaged += packet is not None and packet.is_corrupt  # cut off, yet decoded as far as it goes
        except av.FFmpegError:  # in the decoder: the next packet may work; in the file: `packets` has ended
            damaged += 1
            continue
        any_frame = any_frame or bool(frames)
        yield from frames
        if packet is None:
            break
    with suppress(av.FFmpegError):  # flushed already at the end of a file, not at a break in it
        yield from decoder.decode(None)
    if damaged and any_frame:
        say("%s: skipped %d damaged packets of video.", path, damaged)


def _decoder(path: Path, stream: VideoStream, say: Say) -> VideoCodecContext:
    """A stream's own decoder, or libvpx if the container says that its VP8 or VP9 has alpha."""
    from av.codec import CodecContext
    from av.codec.codec import UnknownCodecError

    name = _ALPHA_DECODERS.get(stream.codec_context.name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return stream.codec_context
    try:
        decoder = CodecContext.create(name, "r")
    except UnknownCodecError:
        say("%s: it has alpha, which this FFmpeg cannot decode without %s; it is read as opaque.", path, name)
        return stream.codec_context
    decoder.thread_type = "AUTO"
    return decoder


def _watched(path: Path, frames: Iterator[VideoFrame], say: Say) -> Iterator[VideoFrame]:
    """Pass frames through, logging once whatever an edit cannot keep of them."""
    depth, met = 8, set[str]()
    for frame in frames:
        deeper = max(component.bits for component in frame.format.components)
        if deeper > depth:
            depth = deeper
            say("%s: it has %d bits per channel, of which an edit keeps 8.", path, depth)
        for what in {_LOST[name] for name in side_data(frame).keys() & _LOST.keys()} - met:
            met.add(what)
            say("%s: an edit does not keep its %s.", path, what)
        yield frame


def _describe(path: Path, container: InputContainer, stream: VideoStream, first: VideoFrame) -> VideoInfo:
    beside = side_data(first)
    matrix = display_matrix(beside)
    width, height = (first.height, first.width) if is_turned(matrix) else (first.width, first.height)
    return VideoInfo(
        path=path,
        width=width,
        height=height,
        frames=stream.frames or None,
        # a guess is the finest clock (1000 in browser recordings), not the mean
        fps=Fraction(stream.average_rate or min(stream.guessed_rate or 25, MOST_GUESSED)),
        time_base=Fraction(stream.time_base),
        has_audio=bool(container.streams.audio),
        rotation=round(first.rotation / 90) * 90 % 360 if matrix else 0,
        display_matrix=matrix,
        pixel_aspect=Fraction(stream.sample_aspect_ratio or 1),
        colour=colour_of(first, stream.codec_context),
        hdr=hdr_of(beside),
    )


def _to_rgb(
    frames: Iterator[VideoFrame], info: VideoInfo, stream: VideoStream, start: Fraction, say: Say
) -> TimedFrames:
    from av.video.reformatter import VideoReformatter

    scaler = VideoReformatter()
    width, height = (info.height, info.width) if is_turned(info.display_matrix) else (info.width, info.height)
    period = max(1, round(1 / (info.fps * info.time_base)))
    offset, expected = round(start / info.time_base), 0
    opaque = same_size = True
    for number, frame in enumerate(frames):
        stamp = frame.pts if frame.pts is not None else frame.dts
        pts = expected if stamp is None else stamp - offset  # raw streams have no clock: frames follow each other
        duration = getattr(frame, "duration", None) or period  # older PyAV does not say
        expected = pts + duration
        if same_size and (frame.width, frame.height) != (width, height):
            same_size = False
            sizes = f"from {width} x {height} to {frame.width} x {frame.height}"
            say("%s: its size changes at frame %d %s; frames are scaled to the first size.", info.path, number, sizes)
        pixels = frame_to_pixels(frame, colour_of(frame, stream.codec_context), width, height, scaler)
        if pixels.shape[2] == 4:
            if opaque and pixels[..., 3].min() < 255:
                opaque = False
                say("%s: it has alpha, which an edit cannot keep; it is composited on white.", info.path)
            pixels = on_white(pixels)
        yield upright(pixels, info.display_matrix), pts, duration


# --- animated images, through Pillow


def _open_animation(path: Path, picture: Image.Image, say: Say) -> tuple[VideoInfo, TimedFrames]:
    if not is_animated(picture):
        raise InputError(f"{path}: it is a single picture; give a video.")
    frames = _animation_frames(path, picture, say)
    first = next(frames)
    height, width = first[0].shape[:2]
    count = frame_count(picture) - _first_frame(picture)
    info = VideoInfo(path, width, height, count, Fraction(1000, first[2]), _MILLISECOND)
    return info, chain([first], frames)


def _animation_frames(path: Path, picture: Image.Image, say: Say) -> TimedFrames:
    pts, begin, end = 0, _first_frame(picture), frame_count(picture)
    check_room(str(path), *picture.size)
    for index in range(begin, end):
        try:
            picture.seek(index)
            frame = to_uint8(read_pixels(picture, str(path)))
        except Exception as error:  # hostile bytes may raise anything
            if index == begin:
                raise InputError(f"{path}: no frame of this animation can be decoded; it is damaged.") from error
            say("%s: the animation ends early, after %d of %d frames.", path, index - begin, end - begin)
            return
        delay = round(picture.info.get("duration") or 0)
        delay = delay if delay > 10 else 100  # as in browsers: shorter delays mean that none was given
        yield frame, pts, delay
        pts += delay


def _first_frame(picture: Image.Image) -> int:
    """0, or 1 for an animated PNG whose first picture is only for viewers that show no animation."""
    return int(getattr(picture, "default_image", False))
