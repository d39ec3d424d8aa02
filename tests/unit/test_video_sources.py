"""Sources that are not plain: alpha, interlacing, more than 8 bits, side data without a name, sizes that change.

Each is read as its docstring in the library says, and what an edit loses of it is one logged line.
"""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from instructx_core.long_video.footage import look_through
from instructx_core.source import load_source
from instructx_core.video import probe
from instructx_core.windows import Window
from support.video_files import LOSSLESS, SIZE, WIDTH, can_tag_rotation, clip, copy, make_video, read

# --- alpha


def with_alpha(count: int = 3, right: int = 255) -> list[np.ndarray]:
    """Red whose left half is transparent: uint8 [H, W, 4]."""
    picture = np.zeros((*SIZE, 4), np.uint8)
    picture[..., 0], picture[:, WIDTH // 2 :, 3] = 255, right
    return [picture] * count


def alpha_video(path: Path, codec: str, pix_fmt: str, right: int = 255, **options: str) -> Path:
    frames = [
        av.VideoFrame.from_ndarray(frame, format="rgba").reformat(format=pix_fmt) for frame in with_alpha(3, right)
    ]
    return make_video(path, frames, codec=codec, pix_fmt=pix_fmt, options=options)


ALPHA = {
    "ProRes 4444": ("a.mov", "prores_ks", "yuva444p10le", {"profile": "4444"}),
    "VP9": ("a.webm", "libvpx-vp9", "yuva420p", {"auto-alt-ref": "0"}),
    "VP9 in Matroska": ("a.mkv", "libvpx-vp9", "yuva420p", {"auto-alt-ref": "0"}),
    "VP8": ("a.webm", "libvpx", "yuva420p", {"auto-alt-ref": "0"}),
    "Animation": ("a.mov", "qtrle", "argb", {}),
    "PNG": ("a.mov", "png", "rgba", {}),
    "PNG of 16 bits": ("a.mov", "png", "rgba64be", {}),
    "FFV1": ("a.mkv", "ffv1", "bgra", {}),
    "FFV1 in YUV": ("a.mkv", "ffv1", "yuva444p", {}),
    "Ut Video": ("a.avi", "utvideo", "gbrap", {}),
    "raw": ("a.mov", "rawvideo", "argb", {}),
}


@pytest.mark.parametrize("kind", ALPHA)
def test_alpha_is_put_on_white_and_said_once(kind: str, tmp_path: Path, said: pytest.LogCaptureFixture):
    name, codec, pix_fmt, options = ALPHA[kind]
    path = alpha_video(tmp_path / name, codec, pix_fmt, **options)
    pixels, _ = read(path)
    assert np.abs(pixels[:, :, : WIDTH // 2 - 2].astype(int) - 255).max() <= 2
    assert np.abs(pixels[:, :, WIDTH // 2 + 2 :].astype(int) - (255, 0, 0)).max() <= 3
    assert [message for message in said.messages if "has alpha" in message] == [
        f"{path}: it has alpha, which an edit cannot keep; it is composited on white."
    ]


def test_half_transparent_pixels_are_mixed_with_white(tmp_path: Path):
    pixels, _ = read(alpha_video(tmp_path / "a.mov", "png", "rgba", right=128))
    assert pixels[0, 5, -5].tolist() == [255, 127, 127]


def test_pictures_videos_and_windows_have_one_rule(tmp_path: Path):
    Image.fromarray(with_alpha(right=77)[0]).save(tmp_path / "a.png")
    path = alpha_video(tmp_path / "a.mov", "png", "rgba", right=77)
    picture = load_source(tmp_path / "a.png").frames[0]
    assert np.array_equal(load_source(path).frames[0], picture)
    window = next(look_through(path).read([Window(0, 3, 0)]))[0]
    assert np.array_equal(window.numpy(), (picture * 255).round().numpy().astype(np.uint8))


def test_opaque_alpha_is_no_loss(tmp_path: Path, said: pytest.LogCaptureFixture):
    frames = [av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="rgba") for frame in clip(3)]
    pixels, _ = read(make_video(tmp_path / "a.mov", frames, codec="png", pix_fmt="rgba"))
    assert np.array_equal(pixels, clip(3)) and not said.messages


# --- interlacing


def interlaced(path: Path, codec: str, pix_fmt: str = "yuv420p", **options: str) -> Path:
    """A bright bar that moves by three columns from field to field."""
    frames = []
    for index in range(8):
        picture = np.full((64, 96, 3), 30, np.uint8)
        for field in (0, 1):
            left = (2 * index + field) * 3
            picture[field::2, left : left + 12] = 220
        frames.append(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt))
    return make_video(path, frames, rate=25, codec=codec, pix_fmt=pix_fmt, options=options)


def combing(pixels: np.ndarray) -> float:
    """How much lines differ from the mean of their neighbours, [T, H, W, 3]."""
    lines = pixels.astype(float)
    return float(np.abs(lines[:, 1:-1] * 2 - lines[:, :-2] - lines[:, 2:]).mean())


FIELDS = {"flags": "+ildct+ilme"}
INTERLACED = {
    "H.264": ("a.mp4", "libx264", "yuv420p", FIELDS | {"x264-params": "interlaced=1:tff=1"}),
    "H.264, bottom first": (
        "a.mkv",
        "libx264",
        "yuv420p",
        FIELDS | {"x264-params": "interlaced=1:bff=1"},
    ),
    "MPEG-2": ("a.mpg", "mpeg2video", "yuv420p", FIELDS | {"b": "4M"}),
    "MPEG-2 in a transport stream": ("a.ts", "mpeg2video", "yuv420p", FIELDS | {"b": "4M"}),
    "ProRes": ("a.mov", "prores_ks", "yuv422p10le", {"flags": "+ildct"}),
}


@pytest.mark.parametrize("kind", INTERLACED)
def test_interlaced_pictures_are_deinterlaced(kind: str, tmp_path: Path, said: pytest.LogCaptureFixture):
    name, codec, pix_fmt, options = INTERLACED[kind]
    path = interlaced(tmp_path / name, codec, pix_fmt, **options)
    with av.open(str(path)) as container:
        raw = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    pixels, times = read(path)
    assert pixels.shape == raw.shape == (8, 64, 96, 3)
    assert combing(raw) > 15 and combing(pixels) < 2
    assert [round(float(time - times[0]) * 25, 2) for time in times] == list(range(8))
    assert sum("deinterlaced" in message for message in said.messages) == 1
    with av.open(str(copy(path, tmp_path / "b.mp4"))) as container:
        assert not any(frame.interlaced_frame for frame in container.decode(video=0))


def test_progressive_pictures_are_left_as_they_are(tmp_path: Path, said: pytest.LogCaptureFixture):
    pixels, _ = read(make_video(tmp_path / "a.mkv", codec="ffv1", pix_fmt="bgr0"))
    assert np.array_equal(pixels, clip()) and not said.messages


# --- depth


@pytest.mark.parametrize(("pix_fmt", "bits"), [("yuv420p10le", 10), ("yuv444p12le", 12), ("yuv420p16le", 16)])
def test_more_than_eight_bits_is_said(pix_fmt: str, bits: int, tmp_path: Path, said: pytest.LogCaptureFixture):
    path = make_video(tmp_path / "a.mkv", codec="ffv1", pix_fmt=pix_fmt)
    read(path)
    assert said.messages == [f"{path}: it has {bits} bits per channel, of which an edit keeps 8."]


# --- side data


def jpeg_video(path: Path, sizes: list[tuple[int, int]], rotation: tuple[int, bool] | None = None, **exif: int) -> Path:
    """JPEGs as a phone's or a camera's MJPEG: with EXIF in each frame where tags are given."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = *sizes[0], "yuvj420p"
        if rotation:
            stream.set_display_rotation(rotation[0], hflip=rotation[1])
        stream.codec_context.open()
        for index, (width, height) in enumerate(sizes):
            tags = Image.Exif()
            tags.update({int(tag.removeprefix("tag")): value for tag, value in exif.items()})
            file = io.BytesIO()
            picture = Image.fromarray(clip(1, height, width)[0])
            picture.save(file, "JPEG", quality=95, **({"exif": tags} if exif else {}))
            packet = av.Packet(file.getvalue())
            packet.stream, packet.pts, packet.dts, packet.duration = stream, index, index, 1
            packet.time_base, packet.is_keyframe = stream.codec_context.time_base, True
            output.mux(packet)
    return path


@can_tag_rotation
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_rotation_survives_exif_in_the_frames(degrees: int, mirrored: bool, tmp_path: Path):
    plain = jpeg_video(tmp_path / "plain.mov", [(96, 64)] * 3, (degrees, mirrored))
    tagged = jpeg_video(tmp_path / "exif.mov", [(96, 64)] * 3, (degrees, mirrored), tag271=1)  # the maker
    with av.open(str(tagged)) as container:
        with pytest.raises(ValueError, match="not a valid Type"):  # once PyAV knows EXIF, this test can go
            _ = next(container.decode(video=0)).side_data
    before, after = probe(plain), probe(tagged)
    assert (after.rotation, after.display_matrix) == (before.rotation, before.display_matrix)
    assert (after.width, after.height) == (before.width, before.height)
    assert np.array_equal(read(tagged)[0], read(plain)[0])
    assert probe(copy(tagged, tmp_path / "b.mp4")).display_matrix == before.display_matrix


# --- sizes that change


def test_a_size_that_changes_is_said(tmp_path: Path, said: pytest.LogCaptureFixture):
    path = jpeg_video(tmp_path / "a.mov", [(96, 64)] * 3 + [(48, 64)] * 2 + [(96, 64)])
    pixels, _ = read(path)
    assert pixels.shape == (6, 64, 96, 3)
    assert said.messages == [
        f"{path}: its size changes at frame 3 from 96 x 64 to 48 x 64; frames are scaled to the first size."
    ]


def test_a_size_that_changes_while_interlaced(tmp_path: Path, said: pytest.LogCaptureFixture):
    """Two MPEG-2 streams, one behind the other, as broadcast switches them."""
    flags = {"flags": "+ildct+ilme", "b": "4M"}
    first = interlaced(tmp_path / "a.mpg", "mpeg2video", **flags)
    frames = [av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p") for frame in clip(8)]
    other = make_video(tmp_path / "b.mpg", frames, rate=25, codec="mpeg2video", options=flags)
    (tmp_path / "c.mpg").write_bytes(first.read_bytes() + other.read_bytes())
    assert read(tmp_path / "c.mpg")[0].shape[1:] == (64, 96, 3)
    assert sum("size changes" in message for message in said.messages) == 1


# --- once


def test_windows_say_it_once(tmp_path: Path, said: pytest.LogCaptureFixture):
    path = alpha_video(tmp_path / "a.mov", "png", "rgba")
    probe(path)
    assert not said.messages
    list(look_through(path).read([Window(0, 3, 0)]))
    assert len(said.messages) == 1


def test_a_plain_clip_says_nothing(tmp_path: Path, said: pytest.LogCaptureFixture):
    read(make_video(tmp_path / "a.mp4", audio=["aac"], options=LOSSLESS))
    assert not said.messages
