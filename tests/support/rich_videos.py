"""Video files with more in them than pictures: tags, chapters, subtitles, covers, sound of any layout."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from support.video_files import SIZE, clip

MILLISECOND = Fraction(1, 1000)


TAGS = {"title": "Hello", "comment": "seen", "creation_time": "2020-01-02T03:04:05.000000Z", "location": "+48.1+011.5/"}


CHAPTERS = [("one", 0, 500), ("two", 500, 1000)]


def rich_video(
    path: Path,
    *,
    tags: dict[str, str] | None = None,
    chapters: bool = False,
    subtitles: dict[str, str] | None = None,
    timecode: str | None = None,
    font: bytes = b"",
    cover: bool = False,
    header: dict[str, str] | None = None,
) -> Path:
    """A second of ten frames; subtitles: language -> codec, each with two of them."""
    with av.open(str(path), "w", container_options=header or {}) as output:
        stream = output.add_stream("libvpx-vp9" if path.suffix == ".webm" else "libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        if timecode:
            stream.metadata["timecode"] = timecode
        tracks = []
        for language, codec in (subtitles or {}).items():
            track = output.add_mux_stream(codec, rate=1000)
            track.time_base, track.metadata["language"] = MILLISECOND, language
            tracks.append((track, codec))
        if cover:
            picture = output.add_stream("mjpeg", rate=1, width=16, height=16, pix_fmt="yuvj420p")
            picture.disposition = av.stream.Disposition.attached_pic.value
        if font:
            output.add_attachment("font.ttf", "application/x-truetype-font", font)
        output.metadata.update(tags or {})
        if chapters:
            output.set_chapters(
                [
                    {"id": index, "start": start, "end": end, "time_base": MILLISECOND, "metadata": {"title": title}}
                    for index, (title, start, end) in enumerate(CHAPTERS)
                ]
            )
        for index, frame in enumerate(clip()):
            made = av.VideoFrame.from_ndarray(frame)
            made.pts = index
            output.mux(stream.encode(made))
        output.mux(stream.encode(None))
        if cover:
            output.mux(picture.encode(av.VideoFrame(16, 16, "yuvj420p")))
            output.mux(picture.encode(None))
        for track, codec in tracks:
            for start, text in ((100, b"hello"), (600, b"there")):
                content = len(text).to_bytes(2, "big") + text if codec == "mov_text" else text
                packet = av.Packet(content)
                packet.stream, packet.pts, packet.dts, packet.duration = track, start, start, 300
                packet.time_base, packet.is_keyframe = MILLISECOND, True
                output.mux(packet)
    return path


def with_sound(path: Path, codec: str, layout: str = "stereo", rate: int = 48_000, seconds: float = 0.5) -> Path:
    """Each channel with a tone of its own: 300 Hz, 400 Hz, ..."""
    with av.open(str(path), "w") as output:
        video = "msmpeg4v3" if path.suffix == ".wmv" else "libx264"
        stream = output.add_stream(video, rate=10, width=48, height=32, pix_fmt="yuv420p")
        track = output.add_stream(codec, rate=rate, layout=layout)
        track.codec_context.bit_rate = 64_000 * track.codec_context.channels
        for index, frame in enumerate(clip(round(seconds * 10))):
            made = av.VideoFrame.from_ndarray(frame)
            made.pts = index
            output.mux(stream.encode(made))
        output.mux(stream.encode(None))
        times = np.arange(round(rate * seconds))[:, None] / rate
        tones = 300 + 100 * np.arange(av.AudioLayout(layout).nb_channels)
        wave = (np.sin(times * tones * 2 * np.pi) * 6000).astype(np.int16)
        sound = av.AudioFrame.from_ndarray(wave.reshape(1, -1), format="s16", layout=layout)
        sound.rate, sound.pts = rate, 0
        output.mux(track.encode(sound))
        output.mux(track.encode(None))
    return path


def heard(path: Path) -> tuple[str, str, np.ndarray]:
    """Codec, layout and samples [N, channels] of the first track."""
    with av.open(str(path)) as container:
        track = container.streams.audio[0]
        layout = track.codec_context.layout
        resampler = av.AudioResampler(format="s16")  # interleaved: PyAV 18 reads 8 planes wrongly
        parts = [part.to_ndarray() for frame in container.decode(track) for part in resampler.resample(frame)]
        return track.codec_context.name, layout.name, np.concatenate(parts, axis=1).reshape(-1, layout.nb_channels)
