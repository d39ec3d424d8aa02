"""What is asked of an edit as one value: checked once, loaded once, the same through every door."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from instructx_core import Editor, EditRequest, InputError, Sampling, edit_video
from instructx_core.config import SamplingConfig
from instructx_core.long_video import LongOptions
from instructx_core.request import as_request
from instructx_core.video import VideoReader
from instructx_core.windows import Span
from support import tiny
from support.video_files import make_video

WORDS = "make the red circle blue"
PICTURE = tiny.clip(1, 40, 56)
REFERENCE = tiny.clip(1, 30, 44, seed=8)[0]
ASKED = EditRequest(WORDS, REFERENCE, Sampling(steps=2, shift=2.0, guidance_scale=1.5), size=(32, 48), seed=5)
PARTS = {
    "reference": REFERENCE,
    "steps": 2,
    "shift": 2.0,
    "guidance_scale": 1.5,
    "seed": 5,
    "height": 32,
    "width": 48,
}


def test_a_request_is_what_its_parts_ask_for(tiny_editor: Editor):
    whole, parts = tiny_editor.edit(PICTURE, ASKED), tiny_editor.edit(PICTURE, WORDS, **PARTS)
    for name in ("frames", "latents", "context"):
        assert torch.equal(getattr(whole, name), getattr(parts, name))
    assert whole.latents.shape[-2:] == (4, 6)
    (batch,) = tiny_editor.edit_batch([PICTURE], [ASKED])
    torch.testing.assert_close(batch.frames, whole.frames, atol=1e-4, rtol=0)
    by_name = tiny_editor.edit(PICTURE, instruction=WORDS, **PARTS)
    assert torch.equal(by_name.frames, whole.frames)


def test_a_long_edit_takes_the_same_request(tiny_editor: Editor, tmp_path: Path):
    source = make_video(tmp_path / "in.mp4")
    options = LongOptions(window=Span.parse("5f"))
    results = []
    for name, (asked, parts) in {"whole.mkv": ((ASKED,), {}), "parts.mkv": ((WORDS,), PARTS)}.items():
        path = edit_video(tiny_editor, source, tmp_path / name, *asked, options=options, **parts).path
        with VideoReader(path) as reader:
            results.append(torch.stack([frame for frame, _ in reader]))
    assert torch.equal(*results)


def test_no_value_of_it_changes():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ASKED.seed = 6
    with pytest.raises(dataclasses.FrozenInstanceError):
        ASKED.sampling.steps = 6


def test_references_are_loaded_once_and_their_files_known(tmp_path: Path, tiny_editor: Editor):
    path = tmp_path / "reference.png"
    Image.new("RGB", (20, 16), (255, 0, 0)).save(path)
    asked = EditRequest(WORDS, [path, REFERENCE])
    path.unlink()
    assert [tuple(image.shape) for image in asked.references] == [(16, 20, 3), (30, 44, 3)]
    assert asked.references[0][0, 0].tolist() == [1, 0, 0] and asked.files == (path,)
    assert EditRequest(WORDS).references == EditRequest(WORDS, None).references == ()
    assert tiny_editor.edit(PICTURE, asked).frames.shape == PICTURE.shape


def test_an_output_replaces_no_reference(tmp_path: Path, tiny_editor: Editor):
    source, path = make_video(tmp_path / "in.mp4"), tmp_path / "reference.gif"
    Image.new("RGB", (20, 16)).save(path)
    for asked in ({"request": EditRequest(WORDS, path)}, {"instruction": WORDS, "reference": [path]}):
        with pytest.raises(InputError, match="would replace the input file"):
            edit_video(tiny_editor, source, path, **asked)


def test_what_is_not_given_is_the_checkpoint_s():
    own = SamplingConfig(steps=7, shift=3.0, guidance_scale=2.0, sigma_min=0.1)
    assert Sampling().over(own) == own
    assert Sampling(steps=2, guidance_scale=0).over(own) == SamplingConfig(2, 3.0, 0, 0.1)
    assert Sampling(renoise=[1, 0.5]).over(own) == dataclasses.replace(own, steps=2)


def test_numpy_s_numbers_are_plain_ones():
    """A resumed edit writes them as JSON."""
    numbers = {"shift": 3, "guidance_scale": 2, "source_scale": 1, "image_stream": 0.5}
    sampling = Sampling(steps=np.int64(4), **{name: np.float32(number) for name, number in numbers.items()})
    asked = EditRequest(WORDS, sampling=sampling, size=(np.int64(32), np.int32(48)), seed=np.uint64(3))
    plain = json.loads(json.dumps([vars(asked.sampling), asked.size, asked.seed]))
    assert plain == [vars(Sampling(steps=4, **numbers)), [32, 48], 3]
    assert Sampling(renoise=(0.9995, 0.5)).renoise == (0.9995, 0.5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"instruction": " "}, "instruction is empty"),
        ({"instruction": None}, "instruction is empty"),
        ({"references": 5}, "reference: it is of type int"),
        ({"references": ["nowhere.png"]}, "nowhere.png"),
        ({"references": torch.zeros(2, 8, 8, 3)}, "reference: it has 2 frames"),
        ({"sampling": 4}, "sampling is 4; give Sampling"),
        ({"size": 64}, "size is 64; give .height, width."),
        ({"size": (64,)}, "size is .64,.; give"),
        ({"size": (64, "a")}, "width is 'a'; give a whole number"),
        ({"size": (0, 64)}, "height is 0; give a positive number"),
        ({"size": (64, 10**30)}, "width is 10+; give at most"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": True}, "seed is True"),
    ],
)
def test_wrong_values_are_refused_at_once(wrong: dict, message: str):
    with pytest.raises(InputError, match=message) as error:
        EditRequest(**({"instruction": WORDS} | wrong))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"steps": "4"},
        {"shift": 101},
        {"guidance_scale": float("nan")},
        *({"renoise": levels} for levels in ((), (0.5, 0.5), (1.1,), (0.5, 0), ("1",), 0.5, (float("nan"),))),
        *({"renoise": levels} for levels in ((1, 0.5, 0.5), (1, 0), (0.9, 0.5), (0.998,))),
        {"renoise": (1, 0.5), "steps": 2},
    ],
)
def test_wrong_sampling_is_refused_at_once(wrong: dict):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Sampling(**wrong)


def test_a_request_says_everything():
    assert as_request(ASKED) is ASKED
    for parts, named in (((None,), {}), ((), {"steps": 3})):
        with pytest.raises(InputError, match="put them in the request"):
            as_request(ASKED, *parts, **named)
    with pytest.raises(InputError, match="instruction is empty"):
        as_request()
    with pytest.raises(TypeError, match="stepz"):
        as_request(WORDS, stepz=3)


def test_a_batch_is_sampled_together(tiny_editor: Editor):
    for other in (
        EditRequest(WORDS, sampling=Sampling(steps=3)),
        EditRequest(WORDS, size=(32, 32)),
        EditRequest(WORDS, REFERENCE),
    ):
        with pytest.raises(InputError, match="differ in sampling, size, number of references"):
            tiny_editor.edit_batch([PICTURE] * 2, [EditRequest(WORDS), other])
