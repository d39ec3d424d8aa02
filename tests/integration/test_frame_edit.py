"""Any function as what edits a long video: what it is told, what it may give, and what the loop does for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from instructx_core import EditInterrupted, InputError, edit_video
from instructx_core.images import to_floats
from instructx_core.long_video import FrameEdit, Head, LongOptions, Turn
from instructx_core.long_video.store import WindowStore
from instructx_core.video import VideoReader, VideoWriter, probe
from instructx_core.windows import Reading, Span
from support.foreign import vace, vace_edit
from support.video_files import make_video

COUNT = 23
OPTIONS = LongOptions(window=Span.parse("8f"), overlap=Span.parse("3f"), anchor_colour=False)
INVERT = {"depends_on": {"filter": "inversion"}}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("source") / "clip.mp4", audio=["aac"], frames=list(_frames()))


def _frames():
    from support.video_files import clip

    return clip(COUNT)


def read(path: Path) -> torch.Tensor:
    with VideoReader(path) as reader:
        return torch.stack([frame for frame, _ in reader])


def invert(frames: torch.Tensor, turn: Turn) -> torch.Tensor:
    return 1 - frames


def whole(source: Path, target: Path, edit) -> bytes:
    """The file that the same edit of all frames at once gives."""
    with VideoReader(source) as reader, VideoWriter(target, like=reader.info) as writer:
        pairs = list(reader)
        for frame, (_, pts) in zip(edit(torch.stack([frame for frame, _ in pairs])), pairs, strict=True):
            writer.write(frame, pts)
    return target.read_bytes()


@pytest.mark.parametrize("head", [Head.PIN, Head.SOURCE])
@pytest.mark.parametrize("overlap", ["0", "1f", "3f"])
def test_an_edit_of_single_frames_is_that_of_the_whole_video_to_the_byte(clip, tmp_path, head, overlap):
    options = replace(OPTIONS, head=head, overlap=Span.parse(overlap))
    edit_video(invert, clip, tmp_path / "a.mp4", options=options)
    assert (tmp_path / "a.mp4").read_bytes() == whole(clip, tmp_path / "b.mp4", lambda frames: 255 - frames)
    assert probe(tmp_path / "a.mp4").has_audio


def test_what_a_function_is_told(clip, tmp_path):
    turns: list[tuple[torch.Tensor, Turn]] = []

    def look(frames: torch.Tensor, turn: Turn) -> torch.Tensor:
        turns.append((frames, turn))
        return torch.full_like(frames, 0.2 + 0.1 * turn.index)

    options = replace(OPTIONS, head=Head.SOURCE, cuts=(10,))
    edit_video(FrameEdit(look, seed=7), clip, tmp_path / "a.mp4", options=options)
    source = to_floats(read(clip))
    spans = [(turn.window.start, turn.window.stop, turn.window.head, turn.held) for _, turn in turns]
    assert spans == [(0, 8, 0, 0), (2, 10, 6, 4), (10, 18, 0, 0), (15, 23, 3, 1)]
    assert [(turn.index, turn.count, turn.seed) for _, turn in turns] == [(i, 4, 7) for i in range(4)]
    assert turns[0][1].tail is None and turns[2][1].tail is None, "a scene starts afresh"
    for frames, turn in turns:
        assert torch.equal(frames[turn.held :], source[turn.window.start + turn.held : turn.window.stop])
    frames, turn = turns[3]
    assert turn.tail.shape == (3, *source.shape[1:])
    assert torch.equal(frames[:1], turn.tail[:1])
    assert (turn.tail - 0.4).abs().max() < 0.003


def test_all_shared_frames_are_held_for_one_that_asks(clip, tmp_path):
    seen = []
    edit = FrameEdit(lambda frames, turn: seen.append((frames, turn)) or 1 - frames, hold_all=True)
    edit_video(edit, clip, tmp_path / "a.mp4", options=replace(OPTIONS, head=Head.SOURCE))
    frames, turn = seen[1]
    assert turn.held == 3 and torch.equal(frames[:3], turn.tail)


def test_a_video_that_is_shorter_than_a_window_is_filled_up(clip, tmp_path):
    lengths = []
    edit = FrameEdit(lambda frames, turn: lengths.append(len(frames)) or 1 - frames, frame_multiple=4)
    edit_video(edit, clip, tmp_path / "a.mp4", options=LongOptions(window=Span.parse("33f"), anchor_colour=False))
    assert lengths == [25]
    assert (tmp_path / "a.mp4").read_bytes() == whole(clip, tmp_path / "b.mp4", lambda frames: 255 - frames)


def test_another_size_goes_into_the_file(clip, tmp_path):
    def larger(frames: torch.Tensor, turn: Turn) -> torch.Tensor:
        return frames.repeat_interleave(2, 1).repeat_interleave(2, 2)

    edit_video(larger, clip, tmp_path / "a.mp4", options=replace(OPTIONS, head=Head.SOURCE, anchor_colour=True))
    info = probe(tmp_path / "a.mp4")
    assert (info.height, info.width) == (64, 96)
    assert len(read(tmp_path / "a.mp4")) == COUNT


def test_colour_is_held_where_asked(clip, tmp_path):
    drift = FrameEdit(lambda frames, turn: frames + 3 / 255)
    edit_video(drift, clip, tmp_path / "a.mp4", options=replace(OPTIONS, anchor_colour=True))
    edit_video(drift, clip, tmp_path / "b.mp4", options=OPTIONS)
    source = read(clip).float()
    held, free = ((read(tmp_path / name).float() - source).mean().abs() for name in ("a.mp4", "b.mp4"))
    assert held < 0.5 < 2 < free


def test_it_goes_on_after_a_stop_to_the_same_bytes(clip, tmp_path):
    def count(frames: torch.Tensor, turn: Turn) -> torch.Tensor:
        turns.append(turn.index)
        step = 0.1 if turn.tail is None else turn.tail.mean() + 0.1
        return torch.cat([frames * 0.5, frames[:0]]) * 0.5 + step * 0.5

    turns: list[int] = []
    edit = FrameEdit(count, **INVERT)
    edit_video(edit, clip, tmp_path / "a.mp4", options=OPTIONS, resume=True)
    assert turns == [0, 1, 2, 3]
    with pytest.raises(EditInterrupted):
        edit_video(edit, clip, tmp_path / "b.mp4", options=OPTIONS, resume=True, callback=lambda at: at.window < 2)
    turns.clear()
    found = edit_video(edit, clip, tmp_path / "b.mp4", options=OPTIONS, resume=True)
    assert found.reused == 1 and turns == [1, 2, 3]
    assert (tmp_path / "b.mp4").read_bytes() == (tmp_path / "a.mp4").read_bytes()


def test_what_an_edit_depends_on_is_read_as_it_was_written(clip, tmp_path):
    edit = FrameEdit(invert, {"size": (8, 8), 3: "three", "name": "\ud800"})
    with pytest.raises(EditInterrupted):
        edit_video(edit, clip, tmp_path / "a.mp4", options=OPTIONS, resume=True, callback=lambda at: at.window < 2)
    assert edit_video(edit, clip, tmp_path / "a.mp4", options=OPTIONS, resume=True).reused == 1


def test_windows_of_another_function_are_not_taken(clip, tmp_path, caplog):
    target = tmp_path / "a.mp4"
    with pytest.raises(EditInterrupted):
        edit_video(FrameEdit(invert, {"x": 1}), clip, target, options=OPTIONS, resume=True, callback=lambda at: False)
    assert WindowStore(target).exists
    found = edit_video(FrameEdit(invert, {"x": 2}), clip, target, options=OPTIONS, resume=True)
    assert found.reused == 0
    assert "changed since the last run: edit" in caplog.text


def test_windows_of_another_default_length_are_not_taken(clip, tmp_path, caplog):
    target = tmp_path / "a.mp4"
    short, long = (FrameEdit(invert, default_frames=count, **INVERT) for count in (9, 17))
    with pytest.raises(EditInterrupted):
        edit_video(short, clip, target, resume=True, callback=lambda at: at.window < 2)
    assert WindowStore(target).count() == 1
    found = edit_video(long, clip, target, resume=True)
    assert found.reused == 0 and len(read(target)) == COUNT
    assert "changed since the last run: default_frames" in caplog.text


def test_a_name_that_is_taken_meanwhile_is_told_and_keeps_the_windows(clip, tmp_path):
    def block(frames: torch.Tensor, turn: Turn) -> torch.Tensor:
        target.mkdir(exist_ok=True)
        return frames

    target = tmp_path / "a.mp4"
    with pytest.raises(InputError, match=r"a\.mp4: the finished video cannot get its name"):
        edit_video(FrameEdit(block, **INVERT), clip, target, options=OPTIONS, resume=True)
    target.rmdir()
    assert edit_video(FrameEdit(invert, **INVERT), clip, target, options=OPTIONS, resume=True).reused == 4


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (lambda frames: frames[:-1], "gave 7 frames for 8"),
        (lambda frames: frames[0], "it must give frames"),
        (lambda frames: None, "gave NoneType"),
        (lambda frames: frames / 0 * 0, "NaN"),
        (lambda frames: (frames * 255).byte(), "floats in"),
        (lambda frames: frames[:, :0], "no pixels"),
    ],
)
def test_what_is_no_edit_is_refused_with_its_window(clip, tmp_path, result, words):
    with pytest.raises(InputError, match=f"Window 1 of 4: .*{words}"):
        edit_video(lambda frames, turn: result(frames), clip, tmp_path / "a.mp4", options=OPTIONS)
    assert not list(tmp_path.iterdir())


def test_one_size_for_all_windows(clip, tmp_path):
    def shrinking(frames: torch.Tensor, turn: Turn) -> torch.Tensor:
        return frames[:, 2 * turn.index :]

    with pytest.raises(InputError, match="Window 2 of 4: .*48 x 30, earlier windows have 48 x 32"):
        edit_video(shrinking, clip, tmp_path / "a.mp4", options=OPTIONS)


def test_what_cannot_be_asked_for_is_refused_before_a_window(clip, tmp_path):
    def never(frames: torch.Tensor, turn: Turn) -> torch.Tensor:
        pytest.fail("work began")

    target = tmp_path / "a.mp4"
    for options in (replace(OPTIONS, head=Head.LATENT), replace(OPTIONS, reading=Reading.VIDEO)):
        with pytest.raises(InputError, match="not possible with a function that edits frames"):
            edit_video(never, clip, target, options=options)
    with pytest.raises(InputError, match="depends_on"):
        edit_video(never, clip, target, options=OPTIONS, resume=True)
    with pytest.raises(InputError, match="your own function or model already contains its edit"):
        edit_video(never, clip, target, "make it red", options=OPTIONS)
    with pytest.raises(InputError, match="give an Editor"):
        edit_video(5, clip, target, options=OPTIONS)
    for name, wrong in {
        "depends_on": {"model": object()}, "default_frames": 0, "frame_multiple": 1.5, "seed": -1
    }.items():  # fmt: skip
        with pytest.raises(InputError, match=name):
            FrameEdit(never, **{name: wrong})


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"overlap": Span.parse("9f")}, "overlap: 9 frames of a window of 8"),
        ({"window": Span.parse("0f")}, "window is shorter than one frame"),
        ({"window": Span.parse("5s"), "head": Head.LATENT}, "latent: not possible"),
    ],
)
def test_options_are_checked_before_the_source_is_decoded(clip, tmp_path, monkeypatch, asked, words):
    monkeypatch.setattr("instructx_core.long_video.edit.look_through", lambda _: pytest.fail("it was decoded"))
    with pytest.raises(InputError, match=words):
        edit_video(invert, clip, tmp_path / "a.mp4", options=replace(OPTIONS, **asked))


def test_a_foreign_pipeline_edits_a_long_video(tmp_path):
    """The example of docs/long-video.md, with weights of no meaning."""
    edit = vace_edit(vace(), steps=2)
    source = make_video(tmp_path / "long.mp4", list(_frames()))
    foreign = FrameEdit(edit, {"pipeline": "VACE", "prompt": "make it snow"}, frame_multiple=4, hold_all=True)
    options = LongOptions(window=Span.parse("9f"), overlap=Span.parse("5f"), head=Head.SOURCE)
    for name, stop in (("whole.mp4", None), ("stopped.mp4", lambda at: at.window < 3)):
        if stop is not None:
            with pytest.raises(EditInterrupted):
                edit_video(foreign, source, tmp_path / name, options=options, resume=True, callback=stop)
        edit_video(foreign, source, tmp_path / name, options=options, resume=True)
    assert len(read(tmp_path / "whole.mp4")) == COUNT
    assert (tmp_path / "whole.mp4").read_bytes() == (tmp_path / "stopped.mp4").read_bytes()
    assert (read(tmp_path / "whole.mp4").float() - read(source).float()).abs().mean() > 5, "nothing was edited"
