"""Video files that cannot be read or written: damage and bad input are told apart, and nothing half-written stays."""

from __future__ import annotations

import signal
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from instructx_core.errors import InputError
from instructx_core.video import VideoReader, VideoWriter
from support.video_files import COUNT, LOSSLESS, SIZE, clip, copy, error, make_video, read, sine

# --- bad input


def test_what_is_no_video_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello " * 1000)
    (tmp_path / "text.txt").write_text("hello " * 1000)
    (tmp_path / "zeros.mp4").write_bytes(bytes(5000))
    (tmp_path / "empty.mp4").write_bytes(b"")
    Image.new("RGB", (4, 4)).save(tmp_path / "still.png")
    with av.open(str(tmp_path / "sound.m4a"), "w") as output:
        track = output.add_stream("aac", rate=48000, layout="stereo")
        output.mux(track.encode(sine(440)))
        output.mux(track.encode(None))
    for name, problem in {
        "text.mp4": "neither an image nor a video",
        "text.txt": "neither an image nor a video",
        "zeros.mp4": "neither an image nor a video",
        "empty.mp4": "empty",
        "still.png": "single picture",
        "sound.m4a": "only sound",
        "missing.mp4": "does not exist",
        ".": "folder",
    }.items():
        with pytest.raises(InputError, match=problem):
            VideoReader(tmp_path / name)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_video_without_frames_is_refused(suffix: str, tmp_path: Path) -> None:
    with av.open(str(tmp_path / f"a.{suffix}"), "w") as output:
        output.add_stream("libx264", rate=10, width=16, height=16)
        output.start_encoding()
    with pytest.raises(InputError, match="holds no pictures|no frame of this video|neither an image nor a video"):
        VideoReader(tmp_path / f"a.{suffix}")


def test_cover_art_is_not_video(tmp_path: Path) -> None:
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as output:
        track = output.add_stream("aac", rate=48000, layout="stereo")
        cover = output.add_stream("mjpeg", rate=1, width=16, height=16, pix_fmt="yuvj420p")
        cover.disposition = av.stream.Disposition.attached_pic.value
        output.mux(cover.encode(av.VideoFrame(16, 16, "yuvj420p")))
        output.mux(cover.encode(None))
        output.mux(track.encode(sine(440)))
        output.mux(track.encode(None))
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1
    with pytest.raises(InputError, match="only sound"):
        VideoReader(path)


def test_names_that_look_like_urls_are_files(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4")
    target = copy(source.rename(tmp_path / "concat:1|2 %d.mp4"), tmp_path / "http:%03d.mp4")
    assert len(read(target)[0]) == COUNT


def test_a_cut_off_file_gives_what_it_has(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = {"g": "5", "bf": "0", **LOSSLESS}
    for name, header in (("index_first.mp4", {"movflags": "+faststart"}), ("index_last.mp4", {}), ("stream.mkv", {})):
        path = make_video(tmp_path / name, options=options, header=header)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    for name in ("index_first.mp4", "stream.mkv"):
        pixels, times = read(tmp_path / name)
        assert 2 <= len(pixels) < COUNT and times == [Fraction(index, 10) for index in range(len(times))]
        assert error(pixels, clip()[: len(pixels)]) < 3
    assert "damaged packets" in caplog.text
    with pytest.raises(InputError, match="neither an image nor a video"):
        VideoReader(tmp_path / "index_last.mp4")


def test_no_frame_at_all_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Every packet is damaged, or they are missing: the error says so, and no warning beside it."""
    source = make_video(tmp_path / "a.mov", codec="png", pix_fmt="rgb24", header={"movflags": "+faststart"})
    with av.open(str(source)) as container:
        packets = [bytes(packet) for packet in container.demux() if packet.size]
    content = source.read_bytes()
    for packet in packets:
        content = content.replace(packet, bytes(len(packet)))
    for name, data in {"zeros.mov": content, "index.mov": content[: content.index(b"mdat")]}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match="no frame of this video can be decoded"):
            VideoReader(tmp_path / name)
    assert not caplog.messages


def test_damage_in_the_middle_costs_no_other_frame(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = make_video(tmp_path / "a.mov", codec="png", pix_fmt="rgb24")
    with av.open(str(source)) as container:
        fifth = [bytes(packet) for packet in container.demux() if packet.size][4]
    source.write_bytes(source.read_bytes().replace(fifth, bytes(len(fifth))))
    pixels, times = read(source)
    assert [time * 10 for time in times] == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert np.array_equal(pixels, np.delete(clip(), 4, axis=0))
    assert "1 damaged packets" in caplog.text
    assert read(copy(source, tmp_path / "b.mp4"))[1] == times


# --- writing


def test_the_file_appears_only_when_complete(tmp_path: Path) -> None:
    frame = torch.zeros(*SIZE, 3, dtype=torch.uint8)
    target = tmp_path / "a.mp4"
    target.write_text("the old one")
    with VideoWriter(target) as writer:
        writer.write(frame)
        assert target.read_text() == "the old one"
    assert len(read(target)[0]) == 1 and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError])
def test_an_interrupted_file_is_removed(failure: type[BaseException], tmp_path: Path) -> None:
    with pytest.raises(failure), VideoWriter(tmp_path / "a.mp4") as writer:
        for frame in clip(3):
            writer.write(torch.from_numpy(frame))
        raise failure
    assert list(tmp_path.iterdir()) == []


def test_wrong_frames_and_names_are_refused(tmp_path: Path) -> None:
    frame = torch.zeros(8, 8, 3, dtype=torch.uint8)
    for path, problem in (("a.avi", "not a video format"), ("no/a.mp4", "cannot be written there"), ("", "folder")):
        with pytest.raises(InputError, match=problem):
            VideoWriter(tmp_path / path)
    with pytest.raises(InputError, match="fps"):
        VideoWriter(tmp_path / "a.mp4", fps=0)
    with pytest.raises(InputError, match="no frame was written"), VideoWriter(tmp_path / "a.mp4"):
        pass
    for wrong in (frame.float(), frame[..., :2], frame[None], torch.zeros(8, 9, 3, dtype=torch.uint8)):
        with pytest.raises(InputError, match="frame 1 is"), VideoWriter(tmp_path / "a.mp4") as writer:
            writer.write(frame)
            writer.write(wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")  # a limit on the size of files stands in for the end of the disk
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    noise = torch.randint(0, 256, (20, *SIZE, 3), dtype=torch.uint8)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
        with (
            pytest.raises(InputError, match=r"a\.mp4: it could not be written"),
            VideoWriter(tmp_path / "a.mp4") as writer,
        ):
            for frame in noise:
                writer.write(frame)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_the_same_frames_give_the_same_file(tmp_path: Path) -> None:
    """Whatever lies in memory: an encoder that reads what nobody wrote gives another file now and then."""
    source = make_video(tmp_path / "a.mp4", clip(17), audio=["aac"])
    dice, noise, files = np.random.default_rng(0), [], set()
    for _ in range(30):
        noise = [*noise[-20:], np.full(dice.integers(1, 200_000), 255, np.uint8)]
        files.add(copy(source, tmp_path / "b.mp4").read_bytes())
    assert len(files) == 1
