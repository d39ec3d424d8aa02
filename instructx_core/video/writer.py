"""Write frames into video files, with the time, rotation, colour and sound of their source."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..atomic import partial_file
from ..errors import InputError
from ..paths import writable_file
from .colour import Colour, rgb_to_frame
from .info import DisplayMatrix, VideoInfo, is_turned, plain_rate, turned_back
from .other_tracks import OtherTracks

if TYPE_CHECKING:
    from typing import Self

    from av import Packet, VideoFrame

logger = logging.getLogger(__name__)

DEFAULT_FPS = Fraction(24)  # of frames without timestamps
_GIF_FPS = 50  # browsers show a frame of 1/100 s for 1/10 s
_FINEST_TIME_BASE = Fraction(1, 1_000_000)  # MP4 counts a frame's duration in 32 bits


@dataclass(frozen=True)
class _Container:
    """A file format, and how FFmpeg writes it."""

    muxer: str
    codec: str
    options: dict[str, str]  # of the encoder
    audio_codec: str | None  # for tracks that cannot be copied; None: no sound at all
    header: dict[str, str]  # options of the muxer
    growing_header: dict[str, str]  # the same for a file that plays while it is being written


# bf: no B-frames, see the package's notes on time. mbtree: x264's reads uninitialised memory, so that 77 of 150 runs
# over the same 17 small frames gave a different file; without it, crf 15 is as sharp as 14 was (-0.05 to +0.2 dB), and
# files are 8 to 33 % larger.
_H264 = {"crf": "15", "preset": "medium", "bf": "0", "x264-params": "mbtree=0"}
_VP9 = {"crf": "18", "b": "0", "deadline": "good", "cpu-used": "2", "row-mt": "1"}
_FASTSTART = {"movflags": "+faststart"}  # the index first, so that a browser plays while it loads
_FRAGMENTS = {"movflags": "+frag_every_frame+empty_moov+default_base_moof"}  # no index: each frame is a fragment
_CLUSTERS = {"cluster_time_limit": "100"}  # milliseconds that Matroska buffers
_CONTAINERS = {
    ".mp4": _Container("mp4", "libx264", _H264, "aac", _FASTSTART, _FRAGMENTS),
    ".m4v": _Container("mp4", "libx264", _H264, "aac", _FASTSTART, _FRAGMENTS),
    ".mov": _Container("mov", "libx264", _H264, "aac", _FASTSTART, _FRAGMENTS),
    ".mkv": _Container("matroska", "libx264", _H264, "aac", {}, _CLUSTERS),
    ".webm": _Container("webm", "libvpx-vp9", _VP9, "libopus", {}, _CLUSTERS),
    ".gif": _Container("gif", "gif", {}, None, {}, {}),
}
VIDEO_SUFFIXES = tuple(_CONTAINERS)
# for a file that plays while it is being written: encoders buffer no frames, muxers no packets
_AT_ONCE = {"libx264": {"tune": "zerolatency"}, "libvpx-vp9": {"lag-in-frames": "0"}, "gif": {}}
_FLUSH = {"flush_packets": "1"}


class VideoWriter:
    """Encodes frames into a video file, which gets its name only when it is complete, unless `growing`.

        with VideoWriter("edited.mp4", like=reader.info) as writer:
            writer.write(frame, pts)

    Leaving the block with an exception, KeyboardInterrupt included, removes what was written; only a growing file
    stays, and plays. File system errors (a full disk) are raised as InputError.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        like: VideoInfo | None = None,
        fps: Fraction | float | None = None,
        size: tuple[int, int] | None = None,
        growing: bool = False,
    ) -> None:
        """Choose the file; it is opened on entering the block.

        Args:
            path: its suffix (VIDEO_SUFFIXES) gives container and codec.
            like: the video whose time base, rotation, colour, sound, subtitles, chapters and tags to keep; without its
                sound: `dataclasses.replace(info, has_audio=False)`.
            fps: frames per second for frames without timestamps; default: that of `like`, else 24.
            size: (height, width) of every frame; default: that of the first.
            growing: write under the final name from the start, so that at any time, even after a crash, everything
                written plays except the last frame or two. The file is a little larger and has no index.

        Raises:
            InputError: unknown suffix, a folder that cannot be written to, or a frame rate out of range.
        """
        self.path = writable_file(path)
        suffix = self.path.suffix.lower()
        if suffix not in _CONTAINERS:
            raise InputError(f"{self.path}: '{suffix}' is not a video format; use one of {', '.join(VIDEO_SUFFIXES)}.")
        if fps is not None and not 0 < fps <= 1000:
            raise InputError(f"fps: it is {fps}; give a number of frames per second above 0, at most 1000.")
        self._format = _CONTAINERS[suffix]
        self._like = like
        self._fps = plain_rate(fps) if fps else like.fps if like else DEFAULT_FPS
        self._time_base = like.time_base if like else 1 / self._fps  # of the timestamps given to `write`
        self._size = size
        self._growing = growing
        self._written = 0
        self._last = -1  # timestamp and duration of the frame written last, in the encoder's time base
        self._last_duration = 1

    def __enter__(self) -> Self:
        import av
        from av.video.reformatter import VideoReformatter

        self._scaler = VideoReformatter()
        self._stream = None
        with ExitStack() as stack:
            target = self._target(stack)
            stack.enter_context(self._explained())
            self._others = self._other_tracks()
            if self._others is not None:
                stack.callback(self._others.close)
            self._output = av.open(target, "w", format=self._format.muxer, container_options=self._header())
            stack.push(self._finish)
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def write(self, frame: Tensor, pts: int | None = None, duration: int | None = None) -> None:
        """Encode one frame, and the sound up to its time.

        Args:
            frame: uint8 [H, W, 3], upright.
            pts: when it is shown, in units of `like.time_base` (without `like`: in frames); increasing. Default:
                following the frames written so far, at the frame rate.
            duration: how long, in the same units; only the last frame's matters. Default: one frame.

        Raises:
            InputError: the frame is not uint8 [H, W, 3], or differs in size from those before.
        """
        self._check(frame)
        if self._stream is None:
            self._start(*frame.shape[:2])
        if pts is None:
            pts = round(self._written / (self._fps * self._time_base))
        if duration is None:
            duration = 1 / (self._fps * self._time_base)
        scale = self._time_base / self._stream.codec_context.time_base
        self._last = max(round(pts * scale), self._last + 1)
        self._last_duration = max(1, round(duration * scale))
        self._written += 1
        picture = self._picture(frame)
        picture.pts, picture.time_base = self._last, self._stream.codec_context.time_base
        for packet in self._stream.encode(picture):
            self._mux(packet)
        if self._others is not None:
            self._others.advance(self._last * picture.time_base)

    def _target(self, stack: ExitStack) -> str | BinaryIO:
        """FFmpeg's target; `stack` moves the complete file to its name, or removes it."""
        self._file = self.path if self._growing else stack.enter_context(partial_file(self.path))
        return f"file:{self._file}"

    def _say(self, *words: object) -> None:
        """Log what an edited file loses of its source."""
        logger.warning(*words)

    def _other_tracks(self) -> OtherTracks | None:
        """The other tracks of `like`; None without `like`, or if its file is missing or not a media file."""
        import av

        if self._like is None or self._like.path == Path():  # frames in memory without sound
            return None
        if not self._like.path.is_file():
            words = "%s is gone: %s has no sound, subtitles, chapters or tags of it."
            self._say(words, self._like.path, self.path.name)
            return None
        try:
            return OtherTracks(self._like.path)
        except (av.FFmpegError, InputError):  # animated images are read by Pillow
            if self._like.has_audio:
                raise
            return None

    def _header(self) -> dict[str, str]:
        """Muxer options."""
        header = self._format.growing_header | _FLUSH if self._growing else self._format.header
        if self._others is not None and self._others.has_device_tags and "movflags" in header:
            return header | {"movflags": header["movflags"] + "+use_metadata_tags"}
        return header

    def _check(self, frame: Tensor) -> None:
        if frame.dtype != torch.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            kind = f"{str(frame.dtype).removeprefix('torch.')} {list(frame.shape)}"
            raise InputError(f"{self.path}: frame {self._written} is {kind}; write uint8 [H, W, 3].")
        self._size = self._size or tuple(frame.shape[:2])
        if tuple(frame.shape[:2]) != tuple(self._size):
            raise InputError(
                f"{self.path}: frame {self._written} is {list(frame.shape[:2])}, but the video is {list(self._size)} "
                "(height, width); write frames of one size."
            )

    def _start(self, height: int, width: int) -> None:
        """Set up the streams, now that the size is known."""
        like, animation = self._like, self._format.codec == "gif"
        options = self._format.options | (_AT_ONCE[self._format.codec] if self._growing else {})
        if like and like.hdr and self._format.codec == "libx264":
            options |= {"x264-params": f"{options['x264-params']}:{like.hdr.x264_params()}"}
        stream = self._output.add_stream(self._format.codec, rate=self._fps, options=options)
        self._matrix: DisplayMatrix | None = None
        if like and like.display_matrix and not animation and hasattr(stream, "set_display_matrix"):
            self._matrix = like.display_matrix
            stream.set_display_matrix(self._matrix)
        turned = is_turned(self._matrix)
        stream.width, stream.height = (height, width) if turned else (width, height)
        if animation and self._fps > _GIF_FPS:
            words = "%s: browsers slow down a GIF of %g frames per second, more than %d; an MP4 keeps its speed."
            self._say(words, self.path, self._fps, _GIF_FPS)
        odd = height % 2 or width % 2
        stream.pix_fmt = "pal8" if animation else "yuv444p" if odd and self._format.codec == "libx264" else "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, 100) if animation else max(self._time_base, _FINEST_TIME_BASE)
        self._colour = like.colour if like else Colour()
        if not animation:
            context.colorspace, context.color_range = self._colour.matrix, self._colour.range
            context.color_primaries, context.color_trc = self._colour.primaries, self._colour.transfer
        if like and like.pixel_aspect != 1:
            upright_instead = is_turned(like.display_matrix) != turned
            context.sample_aspect_ratio = 1 / like.pixel_aspect if upright_instead else like.pixel_aspect
        if like and self._others is not None:
            self._others.add_to(self._output, stream, self._format.audio_codec, sound=like.has_audio)
            changes = ", ".join(self._others.re_encoded())
            if changes:
                self._say("%s: its sound is re-encoded for %s: %s.", like.path, self.path.suffix, changes)
        self._stream = stream

    def _picture(self, frame: Tensor) -> VideoFrame:
        """Upright pixels -> a frame for the encoder."""
        pixels = turned_back(frame.cpu(), self._matrix)
        if self._stream.pix_fmt == "pal8":
            return _palette_frame(pixels)
        return rgb_to_frame(pixels, self._colour, self._stream.pix_fmt, self._scaler)

    def _mux(self, packet: Packet) -> None:
        if packet.pts == self._last:  # earlier durations follow from the next timestamp
            packet.duration = self._last_duration
        self._output.mux(packet)

    def _finish(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Flush the encoders (after an error, only for a growing file) and close the file."""
        import av

        if error is not None:
            with suppress(av.FFmpegError):  # the first error is the one to report
                if self._growing and self._stream is not None:
                    for packet in self._stream.encode(None):
                        self._mux(packet)
                self._output.close()
            return
        with ExitStack() as stack:
            stack.callback(self._output.close)
            if self._stream is None:
                raise InputError(f"{self.path}: no frame was written to this video; write at least one.")
            for packet in self._stream.encode(None):
                self._mux(packet)
            if self._others is not None:
                self._others.finish()
        lost = [] if self._others is None else self._others.missing_from(self._file)
        if self._like and self._like.hdr and self._format.codec != "libx264":
            lost = [*lost, "the HDR10 metadata"]
        if lost:
            self._say("%s: left out of %s: %s.", self._like.path, self.path.name, ", ".join(dict.fromkeys(lost)))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise FFmpeg's errors within the block as InputError."""
        import av

        try:
            yield
        except av.FFmpegError as error:
            reason = error.strerror or str(error)
            raise InputError(
                f"{self.path}: it could not be written ({reason}); check the disk, or use another format."
            ) from error


def _palette_frame(pixels: Tensor) -> VideoFrame:
    """uint8 [H, W, 3] -> a frame of 256 colours chosen for it."""
    from av import VideoFrame
    from PIL import Image

    picture = Image.fromarray(pixels.numpy()).quantize(256)
    colours = np.array(picture.getpalette(), dtype=np.uint8).reshape(-1, 3)
    palette = np.zeros((256, 4), dtype=np.uint8)  # alpha, red, green, blue
    palette[: len(colours), 0], palette[: len(colours), 1:] = 255, colours
    return VideoFrame.from_ndarray((np.asarray(picture), palette), format="pal8")
