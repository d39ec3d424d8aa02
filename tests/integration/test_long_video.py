"""A long edit by the tiny random model: how windows begin, what is handed over, what the MLLM reads, how they join."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from instructx_core import EditInterrupted, Editor, EditRequest, InputError
from instructx_core.config import Detail
from instructx_core.families.components import Components
from instructx_core.images import to_uint8
from instructx_core.long_video import Head, LongOptions, LongProgress, Reading, edit_video
from instructx_core.long_video.editor_model import EditorModel, fingerprint
from instructx_core.long_video.joining import LARGEST, EditedWindow, Handover, anchor_colour, fade, make_handover
from instructx_core.source import load_source
from instructx_core.video import VideoReader, VideoWriter
from instructx_core.windows import Span, Window
from support import tiny

WORDS = "make the red circle blue"
FIVE = Span.parse("5f")
ALONE = LongOptions(window=FIVE, overlap=Span.parse("0"))


def write(path: Path, frames: torch.Tensor) -> Path:
    with VideoWriter(path, fps=8) as writer:
        for frame in to_uint8(frames):
            writer.write(frame)
    return path


def read(path: Path) -> torch.Tensor:
    """uint8 [T, H, W, 3]"""
    with VideoReader(path) as reader:
        return torch.stack([frame for frame, _ in reader])


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine frames: two windows of five."""
    return write(tmp_path_factory.mktemp("source") / "clip.mp4", tiny.clip(9, 40, 56))


def edit(editor: Editor, source: Path, output: Path, options: LongOptions, **more: object) -> torch.Tensor:
    edit_video(editor, source, output, WORDS, options=options, **({"steps": 1} | more))
    return read(output)


def largest(a: torch.Tensor, b: torch.Tensor) -> int:
    return int((a.int() - b.int()).abs().max())


# --- one window, several windows


def test_a_single_window_is_what_the_editor_gives(tiny_editor: Editor, clip: Path, tmp_path: Path):
    from instructx_core.source import save_result

    options = LongOptions(window=Span.parse("9f"), anchor_colour=False)
    ours = edit(tiny_editor, clip, tmp_path / "a.mp4", options, steps=2, guidance_scale=1.5, seed=3)
    whole = tiny_editor.edit(clip, WORDS, steps=2, guidance_scale=1.5, seed=3)
    save_result(whole.frames, tmp_path / "b.mp4", like=load_source(clip))
    assert largest(ours, read(tmp_path / "b.mp4")) <= 1


@pytest.mark.parametrize("head", Head)
def test_every_head_hands_over(tiny_editor: Editor, clip: Path, tmp_path: Path, head: Head):
    """The first window is the same whatever the head, the second is another than by itself."""
    alone = edit(tiny_editor, clip, tmp_path / "alone.mkv", ALONE)
    ours = edit(tiny_editor, clip, tmp_path / "out.mkv", LongOptions(window=FIVE, head=head))
    assert ours.shape == alone.shape == (9, 40, 56, 3)
    assert largest(ours[:4], alone[:4]) <= 6  # the encoder looks at what follows too
    assert largest(ours[5:], alone[5:]) > 6


@pytest.mark.parametrize("detail", Detail)
def test_windows_of_a_large_source_have_its_detail(tiny_editor: Editor, tmp_path: Path, monkeypatch, detail: Detail):
    """A source of twice the canvas's sides: an inversion made on the canvas, and one that changes nothing."""
    from instructx_core.long_video import window_editor

    grain = torch.rand(9, 96, 96, 1, generator=torch.Generator().manual_seed(0)) - 0.5
    pixels = to_uint8(0.15 + 0.6 * tiny.clip(9, 96, 96) + 0.2 * grain)
    source = write(tmp_path / "source.mkv", pixels)
    finish = window_editor.WindowEditor._finish
    options = LongOptions(window=FIVE, anchor_colour=False, detail=detail)

    def edited(function) -> tuple[torch.Tensor, torch.Tensor]:
        """The first window's frames, and those of the source, where the model makes `function` of the canvas."""
        found = []

        def stand_in(self, frames, made, fit) -> torch.Tensor:
            found.append((finish(self, frames, replace(made, decoded=function(made.canvas)), fit), frames))
            return found[-1][0]

        monkeypatch.setattr(window_editor.WindowEditor, "_finish", stand_in)
        edit(tiny_editor, source, tmp_path / "out.mkv", options)
        return found[0]

    same, frames = edited(lambda canvas: canvas)
    inverted, _ = edited(lambda canvas: 1 - canvas)
    error = (inverted.float() - (255 - frames.float())).abs().mean()
    assert torch.equal(same, frames) == (detail is Detail.SOURCE)
    assert error < 1.5 if detail is Detail.SOURCE else error > 6, error


@pytest.mark.parametrize("head", Head)
def test_nothing_assumes_strides(clip: Path, tmp_path: Path, head: Head):
    editor = Editor(tiny.components(**tiny.OTHER_STRIDES))
    options = LongOptions(window=FIVE, head=head, overlap=Span.parse("1"))
    assert edit(editor, clip, tmp_path / "out.mp4", options).shape == (9, 40, 56, 3)


def test_what_each_head_gives_the_sampler(tiny_editor: Editor, clip: Path, tmp_path: Path, monkeypatch):
    from instructx_core import requested_edit

    calls = []
    real = requested_edit.sample

    def spy(denoiser: object, *, terms: list, pinned: torch.Tensor | None, **more: object) -> torch.Tensor:
        latents = real(denoiser, terms=terms, pinned=pinned, **more)
        (term,) = terms
        (source,) = term.conditions
        calls.append((source.source, pinned, latents))
        return latents

    monkeypatch.setattr(requested_edit, "sample", spy)
    plain = None
    for head in Head:
        calls.clear()
        edit(tiny_editor, clip, tmp_path / "out.mp4", LongOptions(window=FIVE, head=head, anchor_colour=False))
        (_, no_pin, before), (source, pinned, after) = calls
        assert no_pin is None
        if head is Head.SOURCE:
            assert pinned is None and not torch.equal(source, plain)
            continue
        plain = source
        assert pinned.shape[2] == 1 and torch.equal(after[:, :, :1], pinned)
        if head is Head.LATENT:
            assert torch.equal(pinned, before[:, :, -1:])
        else:
            tail = to_uint8(tiny_editor.fit(5, (40, 56)).restore(tiny_editor.decode(before)[0])[4:5])
            fitted = tiny_editor.fit(1, (40, 56)).apply(tail.float() / 255)
            torch.testing.assert_close(pinned, tiny_editor.encode(fitted[None]), atol=0.02, rtol=0.02)


@pytest.mark.parametrize(("frames", "window", "shared", "held"), [(13, "9f", 5, 1), (17, "13f", 9, 5)])
def test_what_is_faded_over_is_edited_anew(
    tiny_editor: Editor, tmp_path: Path, frames: int, window: str, shared: int, held: int, monkeypatch
):
    """Five frames overlap; the second video's last window is drawn back by four more, which are held too."""
    from instructx_core import requested_edit

    source = write(tmp_path / "in.mp4", tiny.clip(frames, 40, 56))
    encoded: list[torch.Tensor] = []
    pins: list[torch.Tensor | None] = []
    encode, sample = Editor.encode, requested_edit.sample
    monkeypatch.setattr(Editor, "encode", lambda self, clip: encoded.append(clip[0]) or encode(self, clip))
    monkeypatch.setattr(
        requested_edit, "sample", lambda *a, **given: pins.append(given["pinned"]) or sample(*a, **given)
    )

    def second(head: Head) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        encoded.clear(), pins.clear()
        options = LongOptions(window=Span.parse(window), head=head)
        result = edit_video(tiny_editor, source, tmp_path / "out.mp4", WORDS, options=options, steps=1)
        assert [w.head for w in result.windows] == [0, shared]
        return encoded[1:], pins[1]

    (head, canvas), pinned = second(Head.PIN)
    assert len(head) == held and pinned.shape[2] == 1 + (held - 1) // 4
    (same,), pinned = second(Head.LATENT)
    assert torch.equal(same, canvas) and pinned.shape[2] == 1 + (held - 1) // 4
    (replaced,), pinned = second(Head.SOURCE)
    assert pinned is None and torch.equal(replaced[:held], head) and torch.equal(replaced[held:], canvas[held:])


# --- what the MLLM reads


@pytest.mark.parametrize("reading", Reading)
def test_guidance_of_each_window_or_of_all(tiny_editor: Editor, clip: Path, tmp_path: Path, reading, monkeypatch):
    seen = []
    real = Editor.context

    def spy(self: Editor, instructions, sources, references, is_video):
        seen.append(sources[0])
        return real(self, instructions, sources, references, is_video)

    monkeypatch.setattr(Editor, "context", spy)
    options = LongOptions(window=FIVE, head=Head.SOURCE, reading=reading)
    edit(tiny_editor, clip, tmp_path / "out.mp4", options)
    source = read(clip)
    fit = tiny_editor.fit(9, (40, 56))
    shown = fit.apply(source.float() / 255)[:, : fit.inner[0], : fit.inner[1]]
    # never a head that is edited already
    expected = [shown[0:5], shown[4:9]] if reading is Reading.WINDOW else [shown[[0, 3, 5, 8]]]
    assert len(seen) == len(expected)
    for frames, wanted in zip(seen, expected, strict=True):
        torch.testing.assert_close(frames, wanted, atol=1e-5, rtol=0)


# --- stopping


def test_progress_and_stop(tiny_editor: Editor, clip: Path, tmp_path: Path):
    told: list[LongProgress] = []
    edit(tiny_editor, clip, tmp_path / "out.mp4", ALONE, steps=2, callback=told.append)
    assert [(at.window, at.step) for at in told] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert all((at.windows, at.steps, at.reused) == (2, 2, 0) for at in told)
    with pytest.raises(EditInterrupted):
        edit(tiny_editor, clip, tmp_path / "stopped.mp4", ALONE, callback=lambda at: at.window < 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4"]


@pytest.mark.parametrize("head", Head)
def test_resumed_pixels_are_the_same(tiny_editor: Editor, clip: Path, tmp_path: Path, head: Head):
    options = LongOptions(window=FIVE, head=head, overlap=Span.parse("1"))
    whole = edit(tiny_editor, clip, tmp_path / "whole.mp4", options)
    target = tmp_path / "out.mp4"
    with pytest.raises(EditInterrupted):
        edit(tiny_editor, clip, target, options, resume=True, callback=lambda at: at.window < 2)
    result = edit_video(tiny_editor, clip, target, WORDS, options=options, steps=1, resume=True)
    assert result.reused == 1
    assert torch.equal(read(target), whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "whole.mp4"]


def test_shortcuts_are_part_of_an_edit(bundled: Path):
    """They change pixels, so windows edited with one are not used for an edit without it."""
    editors = [Editor.from_pretrained(bundled, device="cpu", cache=cache) for cache in (None, "taylor", "first-block")]
    identities = [EditorModel(editor, EditRequest(WORDS)).identity() for editor in editors]
    assert "cache" not in identities[0] and [one.get("cache") for one in identities[1:]] == ["taylor", "first-block"]


def test_the_mask_head_is_part_of_a_model(tiny_components: Components):
    """Its masks change pixels."""
    editor = Editor(tiny_components)
    without, editor.masks = fingerprint(editor), torch.nn.Linear(2, 2)
    before = fingerprint(editor)
    torch.nn.init.zeros_(editor.masks.weight)
    assert len({without, before, fingerprint(editor)}) == 3


# --- refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"instruction": " "}, "instruction is empty"),
        ({"steps": 0}, "steps is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"height": 17, "width": 48}, "height is 17"),
        ({"height": 48}, "height and width go together"),
        ({"output": "out.png"}, "the result is a video"),
        ({"output": "clip.mp4"}, "would replace the input"),
        ({"source": "nowhere.mp4"}, "does not exist"),
        ({"options": LongOptions(window=FIVE, overlap=FIVE)}, "leave nothing to edit"),
        ({"options": LongOptions(window=Span.parse("0.01s"))}, "shorter than one frame"),
        ({"options": LongOptions(cuts=(9,))}, "cuts: 9 is outside the video"),
    ],
)
def test_bad_input_is_refused_before_any_work(tiny_editor: Editor, clip: Path, arguments, message, idle: None):
    for name in ("source", "output"):
        if name in arguments:
            arguments = arguments | {name: clip.with_name(arguments[name])}
    call = {"source": clip, "output": clip.with_name("out.mp4"), "instruction": WORDS} | arguments
    with pytest.raises(InputError, match=message) as caught:
        edit_video(tiny_editor, **call, resume=True)
    assert "\n" not in str(caught.value)
    assert [path.name for path in clip.parent.iterdir()] == ["clip.mp4"]


# --- joining


def test_what_is_handed_over():
    frames = torch.arange(9).view(9, 1, 1, 1).expand(9, 2, 2, 3).to(torch.uint8)
    edited = EditedWindow(frames, torch.arange(3.0).view(1, 1, 3, 1, 1))
    window = Window(0, 9, 0)
    one = make_handover(edited, window, Window(8, 17, 1), 4)
    assert one.frames[:, 0, 0, 0].tolist() == [8] and one.latents.flatten().tolist() == [2]
    five = make_handover(edited, window, Window(4, 13, 5), 4)
    assert five.frames[:, 0, 0, 0].tolist() == [4, 5, 6, 7, 8] and five.latents.flatten().tolist() == [1, 2]
    assert make_handover(edited, window, Window(9, 18, 0), 4) is None


@pytest.mark.parametrize(
    ("shared", "overlap", "frames", "latents"), [(1, 1, 1, 1), (5, 5, 1, 1), (13, 5, 9, 3), (5, 1, 5, 2)]
)
def test_what_is_faded_over_is_not_held(shared, overlap, frames, latents):
    """The frames kept of the window before, and the first of the fade, which is still its own."""
    given = Handover(torch.zeros(shared, 2, 2, 3, dtype=torch.uint8), torch.zeros(1, 4, 1 + (shared - 1) // 4, 1, 1))
    head = given.head(overlap, 4)
    assert len(head.frames) == frames and head.latents.shape[2] == latents


def test_windows_share_five_frames_unless_told():
    shared = [LongOptions(window=Span.parse(f"{length}f")).plan(99, Fraction(8), 9, 4)[1] for length in (5, 9, 33)]
    assert shared == [1, 5, 5]


def test_the_fade_begins_with_the_window_before():
    before, after = torch.zeros(6, 1, 1, 3, dtype=torch.uint8), torch.full((6, 1, 1, 3), 100, dtype=torch.uint8)
    assert fade(before, after, 1)[:, 0, 0, 0].tolist() == [0] * 6
    assert fade(before, after, 5)[:, 0, 0, 0].tolist() == [0, 0, 20, 40, 60, 80]
    assert fade(before, after, 0)[:, 0, 0, 0].tolist() == [0] * 6


def test_colour_goes_back_to_the_source_s():
    source = tiny.clip(1, 32, 32)[0] * 0.8 + 0.1
    drifted = source + torch.tensor([0.01, -0.008, 0.0])
    drifted[:16, :16] = torch.tensor([0.0, 0.0, 1.0])  # the edit
    noise = torch.randn(32, 32, 3, generator=torch.Generator().manual_seed(0)) * 0.05  # more than a pixel may differ
    anchored = anchor_colour(drifted, source)
    torch.testing.assert_close(anchored[16:], source[16:], atol=1e-5, rtol=0)
    torch.testing.assert_close(anchor_colour(drifted + noise, source), anchored + noise, atol=0.006, rtol=0)
    assert (anchored - drifted).abs().max() <= LARGEST
    assert torch.equal(anchor_colour(1 - source, source * 0 + 0.05), 1 - source)  # nothing is unedited


def test_the_correction_is_small():
    source = torch.full((8, 8, 3), 0.5)
    moved = anchor_colour(source + 0.05, source) - (source + 0.05)
    torch.testing.assert_close(moved, torch.full_like(moved, -LARGEST))
