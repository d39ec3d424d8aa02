"""Whatever a person hands in becomes float frames or one clear error, and results are saved as what they are."""

from __future__ import annotations

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from instructx_core.errors import InputError
from instructx_core.images import to_uint8
from instructx_core.source import Source, check_output, load_references, load_source, save_result
from instructx_core.video import DEFAULT_FPS, VideoReader, VideoWriter, probe
from support.video_files import make_video

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 3, 4]))


@pytest.fixture
def clip() -> torch.Tensor:
    """Five smooth frames: float [5, 16, 24, 3]."""
    t, y, x = torch.meshgrid(torch.arange(5) / 5, torch.linspace(0, 1, 16), torch.linspace(0, 1, 24), indexing="ij")
    return torch.stack([x, y, t * 0.5 + 0.2], -1)


@pytest.fixture
def video(clip: torch.Tensor, tmp_path: Path) -> Path:
    """The clip as a file of variable frame rate."""
    with VideoWriter(tmp_path / "clip.mp4", fps=100) as writer:
        for frame, pts in zip(clip, (0, 10, 15, 40, 50), strict=True):
            writer.write(to_uint8(frame), pts, 30)
    return tmp_path / "clip.mp4"


@pytest.fixture
def picture(clip: torch.Tensor, tmp_path: Path) -> Path:
    Image.fromarray(to_uint8(clip[0]).numpy()).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


# --- arrays


@given(arrays(np.uint8, SHAPES))
def test_8_bit_arrays_of_any_layout(values: np.ndarray) -> None:
    source = load_source(values)
    frames, channels = source.frames, values.shape[3]
    assert frames.dtype == torch.float32 and frames.shape == (*values.shape[:3], 3) and frames.is_contiguous()
    assert source.is_video == (len(values) > 1) and source.path is source.pts is source.info is None
    expected = values.astype(np.float64) / 255
    if channels == 4:
        expected = expected[..., :3] * expected[..., 3:] + 1 - expected[..., 3:]
    assert np.allclose(frames.numpy(), np.broadcast_to(expected, frames.shape), atol=1e-6)
    assert torch.equal(load_source(torch.from_numpy(values.copy())).frames, frames)
    assert torch.equal(load_source(values[0]).frames, frames[:1])


@given(arrays(np.float32, (2, 3, 4, 3), elements=st.floats(0, 1, width=32)), st.sampled_from(["f2", "f4", "f8", ">f4"]))
def test_float_arrays_of_any_width(values: np.ndarray, dtype: str) -> None:
    frames = load_source(values.astype(dtype)).frames
    assert frames.dtype == torch.float32 and np.allclose(frames.numpy(), values, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_tensors_of_other_floats(dtype: torch.dtype) -> None:
    values = torch.rand(4, 5, 3, dtype=dtype, requires_grad=True)
    source = load_source(values)
    assert source.frames.dtype == torch.float32 and not source.frames.requires_grad and not source.is_video


def test_views_and_grey_planes_and_the_callers_memory() -> None:
    values = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    assert torch.equal(load_source(values[::-1, :, ::-1]).frames, load_source(values).frames.flip(0, 2))
    values.flags.writeable = False
    load_source(values)
    assert load_source(np.full((4, 5), 51, np.uint8)).frames.shape == (1, 4, 5, 3)
    mine = torch.full((4, 5, 3), 0.5)
    load_source(mine).frames.zero_()
    assert mine.min() == 0.5


@given(
    arrays(np.float32, (2, 3, 4, 3), elements=st.floats(0, 1, width=32)),
    st.sampled_from([np.nan, np.inf, -np.inf, -0.5, 1.5, 200.0]),
    st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(0, 3), st.integers(0, 2)),
)
def test_bad_numbers_are_named_with_their_place(values: np.ndarray, bad: float, place: tuple[int, ...]) -> None:
    values[place] = bad
    expected = rf"photo: it holds {bad:g} at index \[{', '.join(map(str, place))}\]"
    for given_as in (values, torch.from_numpy(values)):
        with pytest.raises(InputError, match=expected):
            load_source(given_as, name="photo")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (np.zeros((3, 8, 8), np.uint8), "channels last"),
        (np.zeros((2, 3, 8, 8), np.float32), "channels last"),
        (np.zeros((8, 8, 2), np.uint8), r"shape is \[8, 8, 2\]"),
        (np.zeros(8, np.uint8), r"shape is \[8\]"),
        (np.zeros((1, 1, 8, 8, 3), np.uint8), "shape is"),
        (np.zeros((0, 8, 8, 3), np.uint8), "no pixels"),
        (np.zeros((8, 0, 3), np.float32), "no pixels"),
        (np.zeros((8, 8, 3), np.int64), "type is int64"),
        (np.zeros((8, 8, 3), bool), "type is bool"),
        (np.zeros((8, 8, 3), np.uint16), "type is uint16"),
        (np.zeros((8, 8, 3), complex), "type is complex128"),
        (torch.zeros(8, 8, 3, dtype=torch.int32), "type is int32"),
        (None, "type NoneType"),
        (3, "type int"),
        ([Image.new("RGB", (4, 4))], "type list"),
    ],
)
def test_other_values_are_refused(value: object, problem: str) -> None:
    with pytest.raises(InputError, match=f"^source: .*{problem}"):
        load_source(value)


# --- files


def test_a_picture_file_and_object(picture: Path, clip: torch.Tensor) -> None:
    for value in (picture, str(picture), Image.open(picture)):
        source = load_source(value)
        assert not source.is_video and source.frames.shape == (1, 16, 24, 3)
        assert (source.frames[0] - clip[0]).abs().max() <= 0.51 / 255
    assert load_source(picture).path == picture
    assert load_source(source) is source


def test_a_video_file(video: Path, clip: torch.Tensor) -> None:
    source = load_source(video)
    assert source.is_video and source.path == video and source.info.frames == 5
    assert (source.frames - clip).abs().mean() < 0.012
    assert [pts * source.info.time_base for pts in source.pts] == [Fraction(n, 100) for n in (0, 10, 15, 40, 50)]
    if hasattr(av.VideoFrame, "duration"):  # older PyAV does not say
        assert source.last_duration * source.info.time_base == Fraction(30, 100)


def test_each_frame_is_decoded_once(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    plain = VideoReader.__iter__
    monkeypatch.setattr(VideoReader, "__iter__", lambda self: (decoded.append(one) or one for one in plain(self)))
    load_source(video)
    assert len(decoded) == 5


def test_files_decide_what_is_a_video(clip: torch.Tensor, tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "one.mp4") as writer:
        writer.write(to_uint8(clip[0]))
    stills = [Image.fromarray(to_uint8(frame).numpy()) for frame in clip]
    stills[0].save(tmp_path / "one.gif")
    stills[0].save(tmp_path / "many.gif", save_all=True, append_images=stills[1:])
    stills[0].save(tmp_path / "pages.tif", save_all=True, append_images=stills[1:])
    (tmp_path / "named.jpg").write_bytes((tmp_path / "one.mp4").read_bytes())
    found = {
        name: load_source(tmp_path / name) for name in ("one.mp4", "one.gif", "many.gif", "pages.tif", "named.jpg")
    }
    assert {name: (source.is_video, len(source.frames)) for name, source in found.items()} == {
        "one.mp4": (True, 1),
        "one.gif": (False, 1),
        "many.gif": (True, 5),
        "pages.tif": (False, 1),
        "named.jpg": (True, 1),
    }


def test_bad_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "empty.png").touch()
    for name, problem in {
        "text.mp4": "neither an image nor a video",
        "empty.png": "empty",
        "missing.mp4": "does not exist",
        ".": "folder",
        "a\0b": "cannot be read",
    }.items():
        with pytest.raises(InputError, match=problem):
            load_source(tmp_path / name)


# --- references


def test_references(picture: Path, clip: torch.Tensor, tmp_path: Path) -> None:
    assert load_references(None) == load_references([]) == []
    assert [tuple(one.shape) for one in load_references(picture)] == [(16, 24, 3)]
    mixed = load_references([picture, Image.new("L", (3, 2)), clip[0], clip[:1].numpy()])
    assert [tuple(one.shape) for one in mixed] == [(16, 24, 3), (2, 3, 3), (16, 24, 3), (16, 24, 3)]
    stills = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    stills[0].save(tmp_path / "a.gif", save_all=True, append_images=stills[1:])
    assert load_references(tmp_path / "a.gif")[0][0, 0].tolist() == [1, 0, 0]


def test_a_video_is_no_reference(video: Path, clip: torch.Tensor) -> None:
    with pytest.raises(InputError, match="not an image"):
        load_references(video)
    with pytest.raises(InputError, match="reference 2: it has 5 frames"):
        load_references([clip[0], clip])
    with pytest.raises(InputError, match="reference 1: its type is int64"):
        load_references([np.zeros((4, 4, 3), int)])


# --- results


def test_an_image_result(picture: Path, clip: torch.Tensor, tmp_path: Path) -> None:
    source = load_source(picture)
    save_result(clip[1:2], tmp_path / "out.png", source)
    assert (load_source(tmp_path / "out.png").frames - clip[1:2]).abs().max() <= 0.51 / 255
    with pytest.raises(InputError, match="5 for an image"):
        save_result(clip, tmp_path / "out.png", source)
    with pytest.raises(InputError, match="shape is"):
        save_result(clip[0], tmp_path / "out.png", source)


def test_a_video_result_keeps_its_time(video: Path, clip: torch.Tensor, tmp_path: Path) -> None:
    source = load_source(video)
    for suffix in ("mp4", "mkv", "gif"):
        save_result(1 - clip, tmp_path / f"out.{suffix}", source)
        result = load_source(tmp_path / f"out.{suffix}")
        assert (result.frames - (1 - clip)).abs().mean() < 0.03
        assert [pts * result.info.time_base for pts in result.pts] == [
            pts * source.info.time_base for pts in source.pts
        ]
    save_result(torch.cat([clip, clip], 2)[:3], tmp_path / "out.mp4", source)  # wider, and of another length
    assert load_source(tmp_path / "out.mp4").frames.shape == (3, 16, 48, 3)


def test_a_source_that_is_gone_is_said_to_take_its_sound_along(clip: torch.Tensor, tmp_path: Path, caplog) -> None:
    source = load_source(make_video(tmp_path / "clip.mp4", audio=["aac"]))
    (tmp_path / "clip.mp4").unlink()
    save_result(source.frames, tmp_path / "out.mp4", source)
    assert not probe(tmp_path / "out.mp4").has_audio
    assert "clip.mp4 is gone: out.mp4 has no sound, subtitles, chapters or tags of it" in caplog.text
    caplog.clear()
    save_result(clip, tmp_path / "out.mp4", load_source(clip))
    assert not caplog.text


def test_a_video_from_an_array(clip: torch.Tensor, tmp_path: Path) -> None:
    save_result(clip, tmp_path / "out.mp4", load_source(clip))
    assert probe(tmp_path / "out.mp4").fps == DEFAULT_FPS and probe(tmp_path / "out.mp4").frames == 5


def test_output_is_checked_before_long_work(video: Path, picture: Path, tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to(picture)
    (tmp_path / "folder.png").mkdir()
    assert check_output(tmp_path / "new.PNG", picture) == tmp_path / "new.PNG"
    assert check_output(str(tmp_path / "new.mp4"), video) == tmp_path / "new.mp4"
    for output, origin, problem in (
        ("out.png", video, "the result is a video; save a video as one of .mp4"),
        ("out.mp4", picture, "the result is an image; save an image as one of .png"),
        ("out.gif", picture, "the result is an image"),
        ("out.xyz", picture, "'.xyz' is not a known format"),
        ("out", video, "'' is not a known format"),
        ("no/out.png", picture, "cannot be written there"),
        ("folder.png", picture, "is a folder"),
        ("picture.png", picture, "replace the input"),
        ("link.png", picture, "replace the input"),
        ("clip.mp4", video, "replace the input"),
    ):
        for like in (origin, load_source(origin)):
            with pytest.raises(InputError, match=problem):
                check_output(tmp_path / output, like)
    with pytest.raises(InputError, match="replace the input"):
        check_output(picture, Source(torch.zeros(1, 4, 4, 3), is_video=False), picture)
    with pytest.raises(InputError, match="replace the input"):
        save_result(load_source(picture).frames, picture, load_source(picture))
    before = {path.name for path in tmp_path.iterdir()}
    assert before == {"link.png", "folder.png", "picture.png", "clip.mp4"}


def test_a_source_is_a_value(picture: Path) -> None:
    source = load_source(picture)
    assert replace(source, pixels=source.frames / 2).path == picture


@pytest.mark.parametrize(("suffix", "side"), [("jpg", 65_501), ("webp", 16_384)])
def test_a_picture_that_its_format_cannot_hold_is_found_before_the_edit(suffix: str, side: int, tmp_path: Path) -> None:
    path, target = tmp_path / "long.png", tmp_path / f"o.{suffix}"
    Image.new("L", (side, 1)).save(path)
    for like in (path, load_source(path)):
        with pytest.raises(InputError, match=rf"sides of at most {side - 1} pixels, not {side}; write a PNG"):
            check_output(target, like)
    assert check_output(tmp_path / "o.png", path) == tmp_path / "o.png"
    Image.new("L", (side - 1, 1)).save(path)
    check_output(target, path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_devices_are_no_outputs(picture: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "device.png").symlink_to("/dev/null")
    (tmp_path / "loop.png").symlink_to("loop.png")
    for name in ("fifo.png", "device.png", "loop.png"):
        with pytest.raises(InputError, match="not a regular file|cannot be written there"):
            check_output(tmp_path / name, picture)
    (tmp_path / "dangling.png").symlink_to("nowhere.png")
    check_output(tmp_path / "dangling.png", picture)
