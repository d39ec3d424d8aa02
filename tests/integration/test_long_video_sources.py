"""Sources of a long edit: any length, size, depth, rate and damage; what is no video is refused."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from instructx_core import Editor, InputError
from instructx_core.long_video import LongOptions
from instructx_core.video import probe
from instructx_core.windows import Span
from support.inverter import COUNT, edit, names
from support.video_files import can_tag_rotation, clip, make_video, packets, read


@pytest.fixture
def editor(inverting: Editor) -> Editor:
    return inverting


# --- lengths


@pytest.mark.parametrize("frames", [1, 2, 4, 82, 1801])
def test_every_length(editor: Editor, tmp_path: Path, frames: int):
    source = make_video(tmp_path / "in.mp4", clip(min(frames, 82), 16, 16).repeat(-(-frames // 82), axis=0)[:frames])
    options = LongOptions(window=Span.parse("33f"))
    edit(editor, source, tmp_path / "out.mp4", options=options, resume=False)
    before, after = read(source), read(tmp_path / "out.mp4")
    assert after[0].shape == before[0].shape == (frames, 16, 16, 3) and after[1] == before[1]
    assert np.abs(255 - before[0].astype(int) - after[0])[:, 8:].mean() < 4  # below the corner


@pytest.mark.parametrize("content", [b"", b"no video"])
def test_no_frames(editor: Editor, tmp_path: Path, content: bytes):
    source = tmp_path / "in.mp4"
    source.write_bytes(content)
    with pytest.raises(InputError, match=r"in\.mp4: it is"):
        edit(editor, source, tmp_path / "out.mp4")
    assert names(tmp_path) == ["in.mp4"]


def test_only_sound(editor: Editor, tmp_path: Path):
    path = tmp_path / "in.mp4"
    make_video(tmp_path / "both.mp4", audio=["aac"])
    with av.open(str(tmp_path / "both.mp4")) as both, av.open(str(path), "w") as output:
        track = output.add_stream_from_template(both.streams.audio[0])
        for packet in both.demux(both.streams.audio[0]):
            if packet.size:
                packet.stream = track
                output.mux(packet)
    with pytest.raises(InputError, match="only sound"):
        edit(editor, path, tmp_path / "out.mp4")


def test_a_picture(editor: Editor, tmp_path: Path):
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "in.png")
    with pytest.raises(InputError, match=r"in\.png is a picture"):
        edit(editor, tmp_path / "in.png", tmp_path / "out.mp4")


# --- what a file is, it stays


def test_damage_in_the_middle_costs_no_other_frame(editor: Editor, tmp_path: Path, caplog):
    source = make_video(tmp_path / "in.mov", clip(COUNT), codec="png", pix_fmt="rgb24")
    with av.open(str(source)) as container:
        seventh = [bytes(packet) for packet in container.demux() if packet.size][6]
    source.write_bytes(source.read_bytes().replace(seventh, bytes(len(seventh))))
    edit(editor, source, tmp_path / "out.mp4")
    assert read(tmp_path / "out.mp4")[1] == read(source)[1] and len(read(source)[1]) == COUNT - 1
    assert "damaged packets" in caplog.text


@pytest.mark.parametrize(("height", "width"), [(33, 47), (1, 16), (50, 20)])
def test_odd_sizes(editor: Editor, tmp_path: Path, height: int, width: int):
    source = make_video(tmp_path / "in.mkv", clip(7, height, width), codec="ffv1", pix_fmt="bgr0")
    edit(editor, source, tmp_path / "out.mkv")
    assert read(tmp_path / "out.mkv")[0].shape == (7, height, width, 3)


def test_ten_bits_variable_rate_and_sound(editor: Editor, tmp_path: Path):
    stamps = [0, 3, 4, 9, 11, 12, 20, 22, 23, 30]
    source = make_video(
        tmp_path / "in.mkv", pts=stamps, time_base=Fraction(1, 20), pix_fmt="yuv420p10le", audio=["aac"]
    )
    target = tmp_path / "out.mkv"
    edit(editor, source, target)
    before, after = read(source), read(target)
    assert after[1] == before[1] and after[0].shape == before[0].shape
    assert packets(target) == packets(source)


@can_tag_rotation
def test_portrait_rotation_and_colour_tags(editor: Editor, tmp_path: Path):
    source = make_video(tmp_path / "in.mp4", rotation=(90, False))
    target = tmp_path / "out.mp4"
    edit(editor, source, target)
    before, after = probe(source), probe(target)
    assert (after.rotation, after.width, after.height) == (before.rotation, before.width, before.height) != (0, 48, 32)
    assert after.colour == before.colour and after.frames == before.frames
