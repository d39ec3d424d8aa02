"""The front door: whatever goes in, the edit comes out in its size, the same for the same seed, or one clear error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from instructx_core import EditInterrupted, Editor, InputError
from instructx_core.images import to_uint8
from instructx_core.sampling import initial_noise, sample
from instructx_core.source import Source
from instructx_core.video import VideoWriter
from support import tiny
from support.guided import by_instruction

WORDS = "make the red circle blue"
PICTURE = to_uint8(tiny.clip(1, 48, 48))  # [1, H, W, 3]
CLIP = tiny.clip(5, 48, 48)
SIZE = 48


@pytest.fixture(scope="module")
def picture_edit(tiny_editor: Editor):
    return tiny_editor.edit(PICTURE, WORDS)


def write_video(path: Path, frames: torch.Tensor) -> Path:
    with VideoWriter(path, fps=8) as writer:
        for frame in to_uint8(frames):
            writer.write(frame)
    return path


# --- what goes in


def test_a_source_value_passes_through(tiny_editor: Editor, picture_edit):
    result = tiny_editor.edit(Source(PICTURE / 255, is_video=False), WORDS)
    assert torch.equal(result.frames, picture_edit.frames)


def test_every_form_of_a_picture_is_the_same_picture(tiny_editor: Editor, picture_edit, tmp_path: Path):
    Image.fromarray(PICTURE[0].numpy()).save(tmp_path / "picture.png")
    for source in (
        tmp_path / "picture.png",
        str(tmp_path / "picture.png"),
        Image.fromarray(PICTURE[0].numpy()),
        PICTURE[0].numpy(),
        PICTURE[0],
        PICTURE.numpy().astype(np.float64) / 255,
        (PICTURE / 255).permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),  # other strides
    ):
        result = tiny_editor.edit(source, WORDS)
        assert torch.equal(result.frames, picture_edit.frames), type(source)


def test_what_comes_out(tiny_editor: Editor, picture_edit):
    assert picture_edit.frames.shape == (1, SIZE, SIZE, 3) and picture_edit.frames.dtype == torch.float32
    assert picture_edit.frames.min() >= 0 and picture_edit.frames.max() <= 1
    assert picture_edit.latents.shape == (1, tiny.CHANNELS, 1, 6, 6)
    assert picture_edit.context.shape == (1, 3, tiny.TEXT_DIM)
    assert torch.equal(tiny_editor.decode(picture_edit.latents)[0], picture_edit.frames)
    assert tiny_editor.default_size == (48, 48) and tiny_editor.default_frames == 5 and tiny_editor.stride == 16


def test_an_edit_is_its_parts_put_together(tiny_editor: Editor):
    reference = tiny.clip(1, 30, 70, seed=8)[0]
    result = tiny_editor.edit(CLIP, WORDS, reference, steps=3, shift=2.0, seed=11, guidance_scale=1.5)
    parts = tiny_editor.guidance, tiny_editor.connector
    contexts = [
        parts[1](parts[0](parts[0].prepare([text], [CLIP], [[reference]], is_video=True))) for text in (WORDS, "")
    ]
    assert torch.equal(result.context, contexts[0].tokens)
    source = tiny_editor.encode(CLIP[None])
    # the reference whole and in the middle: 48 wide, 21 high
    resized = torch.nn.functional.interpolate(
        reference.permute(2, 0, 1)[None], (21, 48), mode="bicubic", antialias=True
    ).clamp(0, 1)
    framed = torch.nn.functional.pad(resized, (0, 0, 13, 14), mode="replicate").permute(0, 2, 3, 1)
    conditions = tiny_editor.denoiser.conditions(source, (tiny_editor.encode(framed[None]),))
    noise = initial_noise((1, tiny.CHANNELS, 2, 6, 6), 11)
    latents = sample(tiny_editor.denoiser, noise, by_instruction(1.5, *contexts, conditions), 3, 2.0)
    torch.testing.assert_close(result.latents, latents, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(result.frames, tiny_editor.decode(latents)[0], atol=1e-4, rtol=0)


def test_the_source_stays_as_it_was(tiny_editor: Editor):
    clip = CLIP.clone()
    tiny_editor.edit(clip, WORDS, steps=1)
    assert torch.equal(clip, CLIP)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 6, 10])
def test_any_length(tiny_editor: Editor, frames: int):
    clip = tiny.clip(frames, 40, 56)
    result = tiny_editor.edit(clip, WORDS, steps=1)
    assert result.frames.shape == clip.shape
    assert result.latents.shape[2] == 1 + -(-(frames - 1) // 4)
    assert result.context.shape[1] == (3 if frames == 1 else 5)


@settings(max_examples=12)
@given(st.integers(1, 130), st.integers(1, 130), st.sampled_from([1, 2]))
def test_any_size(tiny_editor: Editor, height: int, width: int, frames: int):
    result = tiny_editor.edit(tiny.clip(frames, height, width), WORDS, steps=1)
    assert result.frames.shape == (frames, height, width, 3) and result.frames.dtype == torch.float32
    assert result.frames.isfinite().all() and result.frames.min() >= 0 and result.frames.max() <= 1


@pytest.mark.parametrize("frames", [1, 4])
def test_strides_are_the_vae_s(frames: int):
    editor = Editor(tiny.components(**tiny.OTHER_STRIDES))
    assert editor.stride == 8
    clip = tiny.clip(frames, 44, 50)
    result = editor.edit(clip, WORDS, steps=1)
    assert result.frames.shape == clip.shape
    assert result.latents.shape == (1, tiny.CHANNELS, 1 if frames == 1 else 3, 12, 12)


def test_a_one_frame_file_stays_a_video_and_a_one_frame_array_is_an_image(tiny_editor: Editor, tmp_path: Path):
    path = write_video(tmp_path / "one.mp4", tiny.clip(1))
    video, image = tiny_editor.edit(path, WORDS, steps=1), tiny_editor.edit(tiny.clip(1), WORDS, steps=1)
    assert video.context.shape[1] == 5 and image.context.shape[1] == 3
    assert video.frames.shape == image.frames.shape == (1, SIZE, SIZE, 3)


def test_a_video_file(tiny_editor: Editor, tmp_path: Path):
    path = write_video(tmp_path / "clip.mp4", tiny.clip(6, 50, 70))
    assert tiny_editor.edit(path, WORDS, steps=1).frames.shape == (6, 50, 70, 3)


@pytest.mark.parametrize(("height", "width"), [(32, 64), (64, 16)])
def test_a_given_size_is_what_the_model_works_at(tiny_editor: Editor, height: int, width: int):
    result = tiny_editor.edit(PICTURE, WORDS, steps=1, height=height, width=width)
    assert result.latents.shape[-2:] == (height // 8, width // 8)
    assert result.frames.shape == PICTURE.shape


# --- references


def test_references_one_or_several(tiny_editor: Editor, picture_edit, tmp_path: Path):
    first, second = to_uint8(tiny.clip(1, 40, 40, seed=5)[0]), tiny.clip(1, 64, 30, seed=6)[0]
    Image.fromarray(first.numpy()).save(tmp_path / "reference.png")
    one = tiny_editor.edit(PICTURE, WORDS, first)
    for same in ([first], (first.numpy(),), tmp_path / "reference.png", Image.fromarray(first.numpy())):
        assert torch.equal(tiny_editor.edit(PICTURE, WORDS, reference=same).frames, one.frames)
    both = tiny_editor.edit(PICTURE, WORDS, [first, second])
    none = tiny_editor.edit(PICTURE, WORDS, [])
    assert torch.equal(none.frames, picture_edit.frames)
    for a, b in ((one, none), (both, one)):
        assert (a.latents - b.latents).abs().max() > 1e-3 and (a.context - b.context).abs().max() > 1e-3
    assert both.frames.shape == PICTURE.shape


# --- the same again


def test_the_same_seed_gives_the_same_pixels(tiny_editor: Editor, picture_edit):
    again = tiny_editor.edit(PICTURE, WORDS, seed=0)
    assert torch.equal(again.frames, picture_edit.frames) and torch.equal(again.latents, picture_edit.latents)
    torch.manual_seed(99)  # nor does anything else in the process have a say
    assert torch.equal(tiny_editor.edit(PICTURE, WORDS).frames, picture_edit.frames)


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1},
        {"steps": 3},
        {"shift": 1.0},
        {"guidance_scale": 3.0},
        {"renoise": (1, 0.5)},
        {"instruction": "add a green star"},
    ],
)
def test_every_setting_has_an_effect(tiny_editor: Editor, picture_edit, changed: dict):
    other = tiny_editor.edit(PICTURE, **({"instruction": WORDS} | changed))
    assert (other.latents - picture_edit.latents).abs().max() > 1e-3


def test_the_checkpoint_s_settings_are_the_defaults(tiny_editor: Editor, picture_edit):
    own = tiny_editor.config.sampling
    same = tiny_editor.edit(PICTURE, WORDS, None, own.steps, own.shift, own.guidance_scale, 0, SIZE, SIZE)
    assert torch.equal(same.frames, picture_edit.frames)


def test_results_carry_no_graph(tiny_components, picture_edit):
    tensors = (picture_edit.frames, picture_edit.latents, picture_edit.context)
    assert not any(tensor.requires_grad for tensor in tensors)
    with torch.inference_mode():
        assert torch.equal(Editor(tiny_components).edit(PICTURE, WORDS).frames, picture_edit.frames)


# --- stopping


def test_callback(tiny_editor: Editor, picture_edit):
    calls = []
    result = tiny_editor.edit(PICTURE, WORDS, callback=lambda *call: calls.append(call))
    assert [call[:2] for call in calls] == [(1, 2), (2, 2)]
    assert torch.equal(calls[-1][2], result.latents) and torch.equal(result.frames, picture_edit.frames)


def test_interrupt(tiny_editor: Editor):
    calls = []
    with pytest.raises(EditInterrupted, match="after step 1 of 4"):
        tiny_editor.edit(PICTURE, WORDS, steps=4, callback=lambda step, *_: calls.append(step) or False)
    assert calls == [1]


# --- refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"instruction": ""}, "instruction is empty"),
        ({"instruction": " \n\t"}, "instruction is empty"),
        ({"instruction": None}, "instruction is empty"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": 2.5}, "steps is 2.5"),
        ({"steps": float("nan")}, "steps is nan"),
        ({"shift": 0}, "shift is 0"),
        ({"shift": float("nan")}, "shift is nan"),
        ({"guidance_scale": -1}, "guidance_scale is -1"),
        ({"guidance_scale": float("inf")}, "guidance_scale is inf"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**64}, "seed is"),
        ({"seed": 0.5}, "seed is 0.5"),
        ({"height": 48}, "height and width go together"),
        ({"width": 48}, "height and width go together"),
        ({"height": 50, "width": 48}, "height is 50; give a positive multiple of 16, for example 48"),
        ({"height": 48, "width": 0}, "width is 0"),
        ({"height": 48.0, "width": 48}, "height is 48.0"),
        ({"source": torch.full((8, 8, 3), float("nan"))}, "source: it holds nan"),
        ({"source": np.zeros((3, 8, 8), np.uint8)}, "channels last"),
        ({"source": "nowhere.png"}, "nowhere.png"),
        ({"reference": "nowhere.png"}, "nowhere.png"),
        ({"reference": torch.zeros(2, 8, 8, 3)}, "reference"),
        ({"source": 5}, "source: it is of type int"),
    ],
)
def test_bad_input_is_refused_before_any_work(tiny_editor: Editor, arguments: dict, message: str, idle: None):
    with pytest.raises(InputError, match=message) as caught:
        tiny_editor.edit(**({"source": PICTURE, "instruction": WORDS} | arguments))
    assert "\n" not in str(caught.value)


def test_a_strip_of_a_picture_is_refused_with_a_reason(tiny_editor: Editor):
    with pytest.raises(InputError, match="too narrow"):
        tiny_editor.edit(torch.zeros(2, 2000, 3), WORDS)


# --- batches


@pytest.mark.parametrize(
    ("frames", "references", "scale"), [(1, 0, 1.0), (1, 2, 2.0), (3, 1, 1.0)], ids=["images", "guided", "videos"]
)
def test_a_batch_is_its_edits_one_by_one(tiny_editor: Editor, frames: int, references: int, scale: float):
    sources = [tiny.clip(frames, 50, 60, seed) for seed in range(3)]
    instructions = ["blue", WORDS, "add a green star in the top left"]
    extra = [[tiny.clip(1, 40, 30 + 9 * i, seed)[0] for i in range(references)] for seed in range(3)]
    together = tiny_editor.edit_batch(sources, instructions, extra, seeds=[4, 5, 6], guidance_scale=scale)
    for i, result in enumerate(together):
        alone = tiny_editor.edit(sources[i], instructions[i], extra[i], seed=4 + i, guidance_scale=scale)
        for name in ("frames", "latents", "context"):
            torch.testing.assert_close(getattr(result, name), getattr(alone, name), atol=1e-4, rtol=1e-4)


def test_context_transform_reaches_the_sampler(tiny_editor: Editor, picture_edit):
    (zeroed,) = tiny_editor.edit_batch([PICTURE / 255], [WORDS], context_transform=torch.zeros_like)
    assert not zeroed.context.any()
    assert (zeroed.latents - picture_edit.latents).abs().max() > 1e-3


def test_a_batch_checks_its_instructions(tiny_editor: Editor):
    with pytest.raises(InputError, match="instruction is empty"):
        tiny_editor.edit_batch([PICTURE / 255] * 2, [WORDS, " "])


def test_a_batch_takes_what_a_single_edit_takes(tiny_editor):
    picture = PICTURE[0] if PICTURE.ndim == 4 else PICTURE
    half, alone = (picture / 255).half(), tiny_editor.edit(picture, WORDS).frames
    for one, made in zip((picture, half), tiny_editor.edit_batch([picture, half], [WORDS] * 2), strict=True):
        assert made.frames.shape == (1, *one.shape) and (made.frames - alone).abs().max() < 0.02
    for sources, words, more, message in (
        ([], [], {}, "without sources"),
        ([picture, picture[:-1]], [WORDS] * 2, {}, "differ in size or length"),
        ([picture] * 2, [WORDS], {}, "There are 2 sources but 1 instructions"),
        ([picture], [WORDS], {"seeds": [1, 2]}, "There are 1 sources but 2 seeds"),
        ([picture], [WORDS], {"references": []}, "There are 1 sources but 0 references"),
        ([picture, picture * 1.0], [WORDS] * 2, {}, "source 2: it holds"),
    ):
        with pytest.raises(InputError, match=message):
            tiny_editor.edit_batch(sources, words, **more)


def test_a_batch_keeps_what_is_a_video(tiny_editor: Editor):
    one_frame = Source(PICTURE, is_video=True)
    (made,) = tiny_editor.edit_batch([one_frame], [WORDS])
    torch.testing.assert_close(made.context, tiny_editor.edit(one_frame, WORDS).context, atol=1e-4, rtol=1e-4)
    with pytest.raises(InputError, match="are both images and videos; give sources of one kind"):
        tiny_editor.edit_batch([one_frame, PICTURE], [WORDS] * 2)


# --- the bundled model


def test_a_mode_without_the_source_is_refused_first(bundled_editor: Editor, idle: None):
    """The bundled model predicts what to change in a source."""
    for mode, scale in (("r2v_apg", None), ("v2v_chain", 1.5)):
        with pytest.raises(InputError, match=f"guidance_mode {mode} also denoises without the source"):
            bundled_editor.edit(PICTURE, WORDS, guidance_mode=mode, source_scale=scale)


def test_bundled_tokenizer_reads_the_same_with_every_transformers(bundled_editor: Editor):
    tokenizer = bundled_editor.guidance.tokenizer
    ids = tokenizer("Make it navy, then invert", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["Ġmake", "Ġit", "Ġnavy", ",", "Ġthen", "Ġinvert"]


def test_bundled_model_follows_an_instruction(bundled_editor: Editor):
    """A red disc on grey, drawn here: told to be blue it is blue, and the rest stays."""
    height, width = bundled_editor.default_size
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    disc = ((rows - height / 2) ** 2 + (columns - width / 2) ** 2).sqrt() < min(height, width) / 6
    picture = torch.full((height, width, 3), 0.5)
    picture[disc] = torch.tensor([0.85, 0.12, 0.12])
    edited = bundled_editor.edit(picture, "Make the red circle blue.").frames[0]
    red, _, blue = edited[disc].mean(0)
    assert blue > red + 0.3
    assert (edited - picture)[~disc].abs().mean() < 0.08
