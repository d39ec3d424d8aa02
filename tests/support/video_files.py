"""Video files that the tests make with PyAV, and what they hold."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.stream import VideoStream

from instructx_core.video import Colour, VideoReader, VideoWriter

HEIGHT, WIDTH, COUNT = 32, 48, 10
SIZE = (HEIGHT, WIDTH)
LOSSLESS = {"qp": "0"}
can_tag_rotation = pytest.mark.skipif(not hasattr(VideoStream, "set_display_rotation"), reason="needs PyAV 18")


def clip(count: int = COUNT, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Smooth frames without symmetry, each different: uint8 [T, H, W, 3]."""
    t, y, x = np.meshgrid(np.arange(count), np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    return (np.stack([x, y * 0.7, (x + y) / 4 + 0.03 * t], -1) * 220 + 10).round().clip(0, 255).astype(np.uint8)


def make_video(
    path: Path,
    frames: np.ndarray | list[av.VideoFrame] | None = None,
    *,
    rate: Fraction | int = 10,
    pts: list[int] | None = None,
    time_base: Fraction | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    colour: Colour | None = None,
    rotation: tuple[int, bool] | None = None,
    audio: list[str] | None = None,
    options: dict[str, str] | None = None,
    header: dict[str, str] | None = None,
) -> Path:
    """Encode frames (default: `clip()`), with a second of sine for every codec in `audio`."""
    frames = clip() if frames is None else frames
    with av.open(str(path), "w", container_options=header or {}) as output:
        stream = output.add_stream(codec, rate=rate, options=options or {})
        first = frames[0]
        stream.height, stream.width = first.shape[:2] if isinstance(first, np.ndarray) else (first.height, first.width)
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = time_base or 1 / Fraction(rate)
        if colour:
            context = stream.codec_context
            context.colorspace, context.color_range = colour.matrix, colour.range
            context.color_primaries, context.color_trc = colour.primaries, colour.transfer
        if rotation:
            stream.set_display_rotation(rotation[0], hflip=rotation[1])
        tracks = [output.add_stream(name, rate=48000, layout="stereo") for name in audio or []]
        for number, track in enumerate(tracks):
            track.metadata["language"] = ("eng", "fra")[number]
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame) if isinstance(frame, np.ndarray) else frame
            picture.pts, picture.time_base = pts[index] if pts else index, stream.codec_context.time_base
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
        for number, track in enumerate(tracks):
            output.mux(track.encode(sine(440 * (number + 1))))
            output.mux(track.encode(None))
    return path


def sine(hertz: int) -> av.AudioFrame:
    wave = (np.sin(np.arange(48000) * hertz * 2 * np.pi / 48000) * 8000).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(np.repeat(wave, 2)[None], format="s16", layout="stereo")
    frame.rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
    return frame


def read(path: Path) -> tuple[np.ndarray, list[Fraction]]:
    """All frames, and when they are shown in seconds."""
    with VideoReader(path) as reader:
        frames, stamps = zip(*reader, strict=True)
        return torch.stack(frames).numpy(), [pts * reader.info.time_base for pts in stamps]


def copy(source: Path, target: Path) -> Path:
    with VideoReader(source) as reader, VideoWriter(target, like=reader.info) as writer:
        for frame, pts in reader:
            writer.write(frame, pts, reader.frame_duration)
    return target


def error(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference in units of 1 / 255."""
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


def packets(path: Path) -> list[list[bytes]]:
    """The audio packets of each track."""
    with av.open(str(path)) as container:
        tracks: dict[int, list[bytes]] = {track.index: [] for track in container.streams.audio}
        for packet in container.demux(*container.streams.audio):
            if packet.size:
                tracks[packet.stream_index].append(bytes(packet))
    return list(tracks.values())
