"""Video files in and out: time, rotation, colour, sound and size survive.

All files are made with PyAV, with formulas of their own where the library's are under test.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import VideoReformatter
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from instructx_core.long_video.footage import look_through
from instructx_core.video import VIDEO_SUFFIXES, Colour, VideoReader, VideoWriter, probe
from instructx_core.video.colour import rgb_to_frame
from support.video_files import (
    COUNT,
    HEIGHT,
    LOSSLESS,
    SIZE,
    WIDTH,
    can_tag_rotation,
    clip,
    copy,
    error,
    make_video,
    packets,
    read,
)

knows_durations = pytest.mark.skipif(not hasattr(av.VideoFrame, "duration"), reason="older PyAV does not say")


# --- time


@pytest.mark.parametrize("suffix", [suffix for suffix in VIDEO_SUFFIXES if suffix != ".gif"])
def test_constant_rate_survives_in_every_container(suffix: str, tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", rate=Fraction(30000, 1001))
    target = copy(source, tmp_path / f"b{suffix}")
    before, after = read(source), read(target)
    assert after[0].shape == (COUNT, *SIZE, 3) and error(before[0], after[0]) < 2.5
    assert error(clip(), before[0]) < 2.5
    assert max(abs(a - b) for a, b in zip(before[1], after[1], strict=True)) <= Fraction(1, 1000)
    assert float(probe(target).fps) == pytest.approx(30000 / 1001, rel=0.02)


def test_info_of_a_plain_file(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", rate=25)
    info = probe(path)
    assert (info.path, info.width, info.height, info.frames, info.fps) == (path, WIDTH, HEIGHT, COUNT, 25)
    assert (info.rotation, info.display_matrix, info.has_audio, info.pixel_aspect) == (0, None, False, 1)


@knows_durations
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_variable_rate_keeps_every_timestamp_and_the_length(suffix: str, tmp_path: Path) -> None:
    milliseconds = [0, 40, 80, 500, 520, 1000, 1001, 1500, 1900, 2400]
    options = {"bf": "0"}
    source = make_video(tmp_path / f"a{suffix}", pts=milliseconds, time_base=Fraction(1, 1000), options=options)
    target = copy(source, tmp_path / "b.mp4")
    assert read(target)[1] == [Fraction(value, 1000) for value in milliseconds]
    with av.open(str(source)) as one, av.open(str(target)) as other:
        assert abs(one.duration - other.duration) <= 1000


@knows_durations
def test_a_long_last_frame_stays_long(tmp_path: Path) -> None:
    frames = torch.from_numpy(clip(2))
    with VideoWriter(tmp_path / "a.mp4", fps=10) as writer:
        writer.write(frames[0], 0, 1)
        writer.write(frames[1], 1, 20)
    with VideoReader(copy(tmp_path / "a.mp4", tmp_path / "b.mp4")) as reader:
        assert [pts * reader.info.time_base for _, pts in reader] == [0, Fraction(1, 10)]
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert container.duration == 2_100_000


def test_one_frame_is_still_a_video(tmp_path: Path) -> None:
    for suffix in VIDEO_SUFFIXES[:5]:
        source = make_video(tmp_path / "a.mp4", clip(1))
        assert read(copy(source, tmp_path / f"b{suffix}"))[0].shape == (1, *SIZE, 3)


def test_an_hour_between_frames(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", fps=1 / 3600) as writer:
        for frame in clip(3):
            writer.write(torch.from_numpy(frame))
    footage = look_through(tmp_path / "a.mp4")
    assert footage.info.fps == Fraction(1, 3600)
    assert [pts * footage.info.time_base for pts in footage.pts] == [0, 3600, 7200]
    copied = copy(tmp_path / "a.mp4", tmp_path / "b.mkv")
    assert read(copied)[1] == [0, 3600, 7200]


def test_broadcast_clocks_start_at_zero(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.ts", audio=["aac"])
    with av.open(str(source)) as container:
        assert container.start_time > 100_000
    assert read(source)[1][0] < 0.1
    target = copy(source, tmp_path / "b.mp4")
    with av.open(str(source)) as one, av.open(str(target)) as other:
        video = [
            container.streams.video[0].start_time * container.streams.video[0].time_base for container in (one, other)
        ]
        audio = [
            container.streams.audio[0].start_time * container.streams.audio[0].time_base for container in (one, other)
        ]
    assert float(video[0] - audio[0]) == pytest.approx(float(video[1] - audio[1]), abs=0.002)


def test_frames_without_a_clock_get_one(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", fps=12.5, size=SIZE) as writer:
        for frame in clip(3):
            writer.write(torch.from_numpy(frame))
    assert read(tmp_path / "a.mp4")[1] == [0, Fraction(2, 25), Fraction(4, 25)]


# --- rotation


@can_tag_rotation
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_rotation_is_applied_on_reading_and_kept_on_writing(degrees: int, mirrored: bool, tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", rotation=(degrees, mirrored))
    upright = np.rot90(clip(), degrees // 90, axes=(1, 2))
    upright = upright[:, :, ::-1] if mirrored else upright
    info = probe(source)
    assert (info.height, info.width) == upright.shape[1:3]
    assert error(read(source)[0], upright) < 2.5
    assert mirrored or info.rotation == degrees
    for suffix in (".mp4", ".mov", ".mkv"):
        target = copy(source, tmp_path / f"b{suffix}")
        assert error(read(target)[0], upright) < 2.5
        assert (probe(target).rotation, probe(target).display_matrix) == (info.rotation, info.display_matrix)
    with av.open(str(target)) as container:
        assert (container.streams.video[0].height, container.streams.video[0].width) == SIZE


@can_tag_rotation
def test_where_no_tag_can_be_written_the_pixels_are_upright(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_video(tmp_path / "a.mp4", rotation=(90, False))
    target = copy(source, tmp_path / "b.gif")
    assert error(read(target)[0], read(source)[0]) < 6 and probe(target).rotation == 0


# --- colour

WEIGHTS = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}  # red and blue of H.273's matrices


def yuv_frames(rgb: np.ndarray, matrix: int, full: bool) -> list[av.VideoFrame]:
    """The textbook conversion of uint8 [T, H, W, 3] to 8-bit 4:4:4."""
    red, green, blue = np.moveaxis(rgb / 255, -1, 0)
    of_red, of_blue = WEIGHTS[matrix]
    luma = of_red * red + (1 - of_red - of_blue) * green + of_blue * blue
    chroma = (blue - luma) / (2 - 2 * of_blue), (red - luma) / (2 - 2 * of_red)
    scale = (255, 0, 255) if full else (219, 16, 224)
    planes = [luma * scale[0] + scale[1], *(part * scale[2] + 128 for part in chroma)]
    stacked = np.stack(planes, 1).round().clip(0, 255).astype(np.uint8)
    return [av.VideoFrame.from_ndarray(frame, format="yuv444p") for frame in stacked]


@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize("full", [False, True])
def test_matrix_and_range_are_right_both_ways(matrix: int, full: bool, tmp_path: Path) -> None:
    tags = Colour(matrix, 2 if full else 1, matrix, matrix if matrix != 9 else 14)
    frames = clip(3)
    source = make_video(
        tmp_path / "a.mp4", yuv_frames(frames, matrix, full), pix_fmt="yuv444p", colour=tags, options=LOSSLESS
    )
    pixels, _ = read(source)
    assert probe(source).colour == tags
    assert np.abs(pixels.astype(int) - frames).max() <= 3 and error(pixels, frames) < 0.8
    for suffix in (".mp4", ".mkv", ".webm"):
        target = copy(source, tmp_path / f"b{suffix}")
        assert probe(target).colour == tags
        assert error(read(target)[0], frames) < 1.6  # another of the matrices would give 2.5 and more


@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize("full", [False, True])
def test_what_is_encoded_follows_the_textbook(matrix: int, full: bool) -> None:
    rgb = clip(1)
    frame = rgb_to_frame(torch.from_numpy(rgb[0]), Colour(matrix, 2 if full else 1), "yuv444p", VideoReformatter())
    expected = yuv_frames(rgb, matrix, full)[0].to_ndarray().astype(int)
    assert np.abs(frame.to_ndarray() - expected).max() <= 1  # FFmpeg rounds full-range chroma down


def test_a_file_without_tags_gets_none_and_looks_the_same(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", yuv_frames(clip(3), 6, False), pix_fmt="yuv444p", options=LOSSLESS)
    assert probe(source).colour == Colour(2, 0, 2, 2)
    assert error(read(source)[0], clip(3)) < 0.8  # small, so taken as BT.601
    target = copy(source, tmp_path / "b.mp4")
    assert probe(target).colour == Colour(2, 0, 2, 2) and error(read(target)[0], clip(3)) < 2


def test_an_untagged_file_in_high_definition_is_bt709(tmp_path: Path) -> None:
    frames = clip(1, 720, 64)
    source = make_video(tmp_path / "a.mp4", yuv_frames(frames, 1, False), pix_fmt="yuv444p", options=LOSSLESS)
    assert error(read(source)[0], frames) < 0.8


def test_ten_bits_are_rounded_to_eight(tmp_path: Path) -> None:
    frames = []
    for level in (64, 502, 940):  # limited range: black, middle, white
        frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p10le")
        for plane, value in zip(frame.planes, (level, 512, 512), strict=True):
            plane.update(np.full(plane.buffer_size // 2, value, "<u2").tobytes())
        frames.append(frame)
    source = make_video(tmp_path / "a.mkv", frames, codec="ffv1", pix_fmt="yuv420p10le", colour=Colour())
    assert [set(frame.ravel()) for frame in read(source)[0]] == [{0}, {127}, {255}] or np.abs(
        read(source)[0].mean((1, 2, 3)) - [0, 127.5, 255]
    ).max() <= 1
    assert error(read(copy(source, tmp_path / "b.mp4"))[0], read(source)[0]) < 1


# --- size


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif"])
@settings(max_examples=8, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), count=st.integers(1, 3))
def test_any_size_and_length_comes_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, height: int, width: int, count: int
) -> None:
    path = tmp_path_factory.mktemp("sizes") / f"a{suffix}"
    frames = (
        np.full((count, height, width, 3), (60, 120, 200), np.uint8)
        + np.arange(count, dtype=np.uint8)[:, None, None, None]
    )
    with VideoWriter(path) as writer:
        for frame in frames:
            writer.write(torch.from_numpy(frame))
    if suffix == ".gif" and count == 1:
        assert Image.open(path).size == (width, height)  # one frame is no animation
    else:
        assert read(path)[0].shape == frames.shape and error(read(path)[0], frames) < 4


def test_odd_source_keeps_its_size(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", clip(3, 33, 47), pix_fmt="yuv444p")
    assert read(copy(source, tmp_path / "b.mp4"))[0].shape == (3, 33, 47, 3)


# --- sound


@pytest.mark.parametrize(
    ("source", "target", "codec"), [("mp4", "mp4", "aac"), ("mkv", "mkv", "libopus"), ("mp4", "mov", "aac")]
)
def test_every_audio_track_is_copied_bit_by_bit(source: str, target: str, codec: str, tmp_path: Path) -> None:
    path = make_video(tmp_path / f"a.{source}", audio=[codec, codec])
    assert probe(path).has_audio
    copied = copy(path, tmp_path / f"b.{target}")
    assert packets(copied) == packets(path) and len(packets(path)) == 2
    with av.open(str(copied)) as container:
        assert [track.metadata.get("language") for track in container.streams.audio] == ["eng", "fra"]
        assert container.streams.video[0].start_time in (0, None)


@pytest.mark.parametrize(("codec", "target", "becomes"), [("aac", "webm", "opus"), ("pcm_s16le", "mp4", "aac")])
def test_a_track_that_the_container_refuses_is_encoded_anew(
    codec: str, target: str, becomes: str, tmp_path: Path
) -> None:
    source = make_video(tmp_path / "a.mov", audio=[codec])
    with av.open(str(copy(source, tmp_path / f"b.{target}"))) as container:
        assert container.streams.audio[0].codec_context.name == becomes
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert 47_000 <= len(sound) <= 50_000
    assert np.argmax(np.abs(np.fft.rfft(sound[:48000]))) == pytest.approx(440, abs=2)


def test_sound_can_be_left_out_and_gif_has_none(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", audio=["aac"])
    with VideoWriter(tmp_path / "b.mp4", like=replace(probe(source), has_audio=False)) as writer:
        writer.write(torch.zeros(*SIZE, 3, dtype=torch.uint8))
    assert not probe(tmp_path / "b.mp4").has_audio
    assert not probe(copy(source, tmp_path / "b.gif")).has_audio


def test_sound_lies_beside_the_pictures_of_its_time(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", clip(40), rate=20, audio=["libopus"])
    with av.open(str(copy(source, tmp_path / "b.mkv"))) as container:
        times = [float(packet.dts * packet.time_base) for packet in container.demux() if packet.size]
    assert max(earlier - later for earlier, later in pairwise(times)) < 0.1


# --- animated images


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_animated_images_are_videos(suffix: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (12, 8), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(
        tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], duration=[100, 40, 300], **options
    )
    pixels, times = read(tmp_path / f"a.{suffix}")
    assert pixels[:, 3, 3].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    assert times == [0, Fraction(1, 10), Fraction(14, 100)]
    for target in ("b.gif", "b.mp4"):
        assert read(copy(tmp_path / f"a.{suffix}", tmp_path / target))[1] == times
        with av.open(str(tmp_path / target)) as container:
            assert container.duration == 440_000


def test_a_png_s_picture_for_viewers_that_cannot_animate_is_no_frame(tmp_path: Path) -> None:
    still, *frames = [Image.new("RGB", (12, 8), colour) for colour in ("red", "lime", "blue")]
    still.save(tmp_path / "a.png", save_all=True, append_images=frames, duration=40, default_image=True)
    pixels, times = read(tmp_path / "a.png")
    assert pixels[:, 3, 3].tolist() == [[0, 255, 0], [0, 0, 255]]
    assert times == [0, Fraction(4, 100)]
    info = probe(tmp_path / "a.png")
    assert (info.frames, info.fps) == (2, 25)


@pytest.mark.parametrize(("fps", "said"), [(60, True), (50, False)])
def test_a_gif_that_browsers_slow_down_is_said(fps: int, said: bool, tmp_path: Path, caplog) -> None:
    with VideoWriter(tmp_path / "a.gif", fps=fps) as writer:
        writer.write(torch.zeros(4, 4, 3, dtype=torch.uint8))
    assert ("a.gif: browsers slow down a GIF of 60 frames per second" in caplog.text) is said


def test_transparency_of_an_animation_is_white(tmp_path: Path) -> None:
    frames = [Image.new("RGBA", (4, 4), (0, 0, 0, alpha)) for alpha in (0, 255)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert read(tmp_path / "a.webp")[0][:, 0, 0, 0].tolist() == [255, 0]
