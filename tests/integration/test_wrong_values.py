"""Python values of the wrong type or size end in one sentence that names them, before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from instructx_core import Editor
from instructx_core.errors import CheckpointError, InputError
from instructx_core.images import to_uint8
from instructx_core.long_video import LongOptions, edit_video
from support import tiny
from support.video_files import make_video

WORDS = "make the red circle blue"
PICTURE = to_uint8(tiny.clip(1, 48, 48))  # [1, H, W, 3]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"path": 5}, "The model is 5"),
        ({"path": b"x"}, "The model is b'x'"),
        ({"device": "meta"}, "The device 'meta' stores no values|no device 'meta'"),
        ({"device": torch.device("meta")}, "no device|stores no values"),
        ({"device": "privateuseone"}, "no device"),
        ({"device": 5}, "no device 5"),
        ({"device": []}, "no device"),
        ({"dtype": "float33"}, "dtype is 'float33'; choose one of"),
        ({"dtype": torch.int8}, "dtype is 'int8'"),
        ({"dtype": float}, "dtype is .<class 'float'>"),
        ({"loras": [("a", 1, 2)]}, "pairs"),
        ({"loras": "a.safetensors"}, "pairs"),
        ({"loras": 5}, "pairs"),
        ({"transformer": 5}, "transformer is 5"),
        ({"memory": 5}, "memory"),
        ({"attention": 5}, "attention"),
        ({"cache": 5}, "cache"),
    ],
)
def test_wrong_types_for_a_model_are_named(options: dict, problem: str):
    with pytest.raises((InputError, CheckpointError), match=problem):
        Editor.from_pretrained(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"shift": "a"},
        {"guidance_scale": "a"},
        {"steps": "a"},
        {"seed": "a"},
        {"height": 10**9, "width": 10**9},
        {"height": 10**9 * 16, "width": 16},
        {"height": "a", "width": 48},
        {"height": 48.0, "width": 48},
        {"dtype": torch.float16},
        {"dtype": "uint8"},
        {"detail": 5},
        {"instruction": 5},
        {"instruction": b"make it blue"},
        {"instruction": "lone \ud800"},
        {"instruction": "word " * 20_000},
        {"source": 5},
        {"source": {"a": 1}},
        {"source": torch.zeros(1, 3).to_sparse()},
        {"source": torch.empty(4, 4, 3, device="meta")},
        {"source": torch.nested.nested_tensor([torch.zeros(2, 3), torch.zeros(3, 3)])},
        {"reference": torch.empty(4, 4, 3, device="meta")},
        {"reference": {"a": 1}},
    ],
)
def test_wrong_values_for_an_edit_are_input_errors(tiny_editor: Editor, options: dict, idle: None):
    with pytest.raises(InputError) as caught:
        tiny_editor.edit(**({"source": PICTURE, "instruction": WORDS} | options))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("size", [(4000, 1), (1, 4000), (5000, 3)])
def test_narrow_frames_are_refused_with_their_own_numbers(tiny_editor: Editor, size: tuple[int, int]):
    with pytest.raises(InputError, match=f"A frame of {size[1]} x {size[0]} is too narrow"):
        tiny_editor.edit(torch.zeros(*size, 3), WORDS)


def test_frames_come_in_8_bits_where_asked(tiny_editor: Editor):
    floats, eights = (tiny_editor.edit(PICTURE, WORDS, steps=1, dtype=dtype) for dtype in (torch.float32, torch.uint8))
    assert eights.frames.dtype == torch.uint8 and torch.equal(to_uint8(floats.frames), eights.frames)


@pytest.mark.parametrize("name", ["source", "output", "reference", "instruction"])
@pytest.mark.parametrize("value", [5, b"a.mp4", torch.zeros(2, 8, 8, 3), None])
def test_wrong_values_for_a_long_edit_are_input_errors(tiny_editor: Editor, name: str, value: object, tmp_path: Path):
    given = {"source": make_video(tmp_path / "a.mp4"), "output": tmp_path / "o.mp4", "instruction": WORDS} | {
        name: value
    }
    if name == "reference" and (value is None or isinstance(value, torch.Tensor)):
        given["reference"] = {"a": value}
    with pytest.raises(InputError, match={"source": "input file"}.get(name, name)):
        edit_video(tiny_editor, **given)


def test_wrong_options_of_a_long_edit_are_input_errors():
    for name, wrong in {"cuts": "x", "window": 5, "head": "x", "anchor_colour": "a"}.items():
        with pytest.raises(InputError, match=f"options: {name} is {wrong!r}"):
            LongOptions(**{name: wrong})


def test_an_instruction_of_too_many_tokens_is_refused(tiny_editor: Editor):
    """Of few characters, in a script that the tokenizer cuts into bytes."""
    with pytest.raises(InputError, match=r"has \d+ tokens; give at most 4096"):
        tiny_editor.edit(PICTURE, "火山 " * 3000)
    tiny_editor.edit(PICTURE, "word " * 700, steps=1)
