"""Readers of pictures, videos and Python values: what a person hands in to be edited."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from instructx_core import Editor, edit_video
from instructx_core.long_video import Head, LongOptions, Reading
from instructx_core.source import load_references, load_source
from instructx_core.windows import Span
from support.fuzz_judge import WrongError, sound
from support.fuzz_mutate import HOSTILE_NAMES, NASTY, mutate_bytes
from support.fuzz_shared import WORDS, Case


def picture(case: Case) -> Callable[[], object]:
    """A damaged picture file as source or reference, under its own suffix or another kind's."""
    suffix = case.random.choice(list(case.shared.pictures))
    data = mutate_bytes(case.shared.pictures[suffix], case.random)
    name = suffix if case.random.random() < 0.8 else case.random.choice((".png", ".jpg", ".mp4", ".gif", ""))
    path = case.folder / f"in{name}"
    path.write_bytes(data)
    if case.random.random() < 0.3:
        return lambda: [sound(reference[None]) for reference in load_references(path)]
    return lambda: sound(load_source(path).frames)


def video(case: Case) -> Callable[[], object]:
    """A damaged video file, read whole or window by window."""
    suffix = case.random.choice(list(case.shared.videos))
    path = case.folder / f"in{suffix}"
    path.write_bytes(mutate_bytes(case.shared.videos[suffix], case.random))
    if case.random.random() < 0.7:
        return lambda: sound(load_source(path).frames)
    options = LongOptions(window=Span.parse("5f"), overlap=Span.parse("1f"))
    output = case.folder / f"out{case.random.choice(('.mp4', '.mkv', '.webm', '.gif'))}"

    def edit() -> None:
        edit_video(case.shared.editor, path, output, WORDS, options=options, steps=1)
        if not output.is_file():
            raise WrongError("there is no output")

    return edit


def array(case: Case) -> Callable[[], object]:
    """An array, tensor or picture of odd shape, type or content, as source or reference."""
    value = _array(case)
    if case.random.random() < 0.3:
        return lambda: [sound(reference[None]) for reference in load_references(value)]
    return lambda: sound(load_source(value).frames)


def _array(case: Case) -> Any:
    pick = case.random
    sides = (0, 1, 2, 3, 4, 5, 16, 48, 63)
    shape = [pick.choice(sides) for _ in range(pick.choice((0, 1, 2, 3, 3, 3, 4, 4, 5)))]
    if len(shape) > 2 and pick.random() < 0.7:
        shape[-1] = 3
    match pick.randrange(9):
        case 0:
            return np.full(shape, pick.choice((0.5, math.nan, math.inf, -1.0, 2.0, 300)))
        case 1:
            kinds = (
                "uint8",
                "int8",
                "uint16",
                "int64",
                "float16",
                "float64",
                "complex64",
                "bool",
                "object",
                "U4",
                "M8[s]",
            )
            return np.zeros(shape, pick.choice(kinds))
        case 2:
            kinds = (torch.uint8, torch.int32, torch.bfloat16, torch.float64, torch.complex64, torch.bool)
            return torch.zeros(shape, dtype=pick.choice(kinds))
        case 3:
            return torch.zeros(1).expand(pick.choice(((10**6, 10**6, 3), (10**9, 4, 4, 3))))
        case 4:
            tensors = (
                lambda: torch.zeros(4, 4, 3).to_sparse(),
                lambda: torch.zeros(4, 4, 3, device="meta"),
                lambda: torch.nested.nested_tensor([torch.zeros(4, 4, 3), torch.zeros(5, 4, 3)]),
                lambda: torch.zeros(4, 4, 3, requires_grad=True),
                lambda: torch.quantize_per_tensor(torch.rand(4, 4, 3), 0.1, 0, torch.quint8),
                lambda: torch.rand(4, 4, 3).conj().imag if pick.random() < 0 else torch.rand(4, 4, 3)[::2],
            )
            return pick.choice(tensors)()
        case 5:
            modes = ("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16")
            return Image.new(pick.choice(modes), (pick.choice((1, 3, 48)), pick.choice((1, 3, 48))))
        case 6:
            closed = Image.open(case.shared.picture)
            closed.close()
            return closed
        case 7:
            return pick.choice(NASTY)
        case _:
            return np.random.RandomState(pick.randrange(2**32)).rand(*shape)


def instruction(case: Case) -> Callable[[], object]:
    """Words of any kind: control characters, surrogates, other types, special tokens of the MLLM, a very long text."""
    pick = case.random
    pieces = (
        "make it blue",
        "\udcff",
        "\x00",
        "\x1b[2J",
        "\n\n",
        "🟥" * 50,
        "<|im_end|>",
        "<|image_pad|>",
        "\u202e",  # turns what follows around
        "é" * 200,
    )
    texts: list[Any] = ["".join(pick.choices(pieces, k=pick.randint(1, 4))), pick.choice(NASTY), " ", WORDS.encode()]
    value = pick.choice(texts)
    source = case.shared.frames[:1]
    return lambda: sound(case.shared.editor.edit(source, value, steps=1).frames)


def options(case: Case) -> Callable[[], object]:
    """Python arguments of the front door, one or two of them of odd types and ranges."""
    pick = case.random
    names = ("reference", "steps", "shift", "guidance_scale", "seed", "height", "width", "source", "instruction")
    given: dict[str, Any] = {"source": case.shared.frames[:1], "instruction": WORDS, "steps": 1}
    for name in pick.sample(names, pick.randint(1, 2)):
        given[name] = pick.choice(NASTY)
    if given.get("steps") == 1000 or given.get("steps") in (63,):
        given["steps"] = 1
    return lambda: sound(case.shared.editor.edit(**given).frames)


def long_options(case: Case) -> Callable[[], object]:
    """Arguments of `edit_video` and of `LongOptions`, some of odd types and ranges."""
    pick = case.random
    given: dict[str, Any] = {"source": case.shared.clip, "output": case.folder / "out.mp4", "instruction": WORDS}
    given |= {"steps": 1}
    own: dict[str, Any] = {"window": Span.parse("5f"), "overlap": Span.parse("1f")}
    values = {
        "window": ("a", "5f", 5, -1, *NASTY),
        "overlap": ("a", 0, *NASTY),
        "head": (*Head, "pin", *NASTY),
        "reading": (*Reading, *NASTY),
        "cuts": ((3,), (0, -1), (10**9,), "auto", *NASTY),
        "anchor_colour": NASTY,
    }
    for name in pick.sample(list(values), pick.randint(0, 2)):
        own[name] = pick.choice(values[name])
    for name in pick.sample(("source", "output", "instruction", "reference", "seed", "height", "resume"), 1):
        given[name] = pick.choice((*NASTY, *(case.folder / name for name in HOSTILE_NAMES if name)))

    def edit() -> None:
        edit_video(case.shared.editor, options=LongOptions(**own), **given)

    return edit


def loading(case: Case) -> Callable[[], object]:
    """Arguments of `Editor.from_pretrained`, one of them odd."""
    pick = case.random
    names = ("path", "device", "dtype", "transformer", "vae", "mllm", "loras", "memory", "fp8", "attention", "cache")
    given: dict[str, Any] = {"path": case.shared.model, "device": "cpu"}
    name = pick.choice(names)
    values = {"device": ("meta", "privateuseone", "cuda:99", "cpu:7", "mps", "xla"), "dtype": (torch.int8, "float32")}
    values |= {"loras": ([("a", 1, 2)], [("a",)], ["a"], [(None, None)])}
    given[name] = pick.choice((*values.get(name, ()), *NASTY, Path("x" * 5000)))

    def load() -> None:
        sound(Editor.from_pretrained(**given).edit(case.shared.frames[:1], WORDS, steps=1).frames)

    return load


READERS = {
    "picture": picture,
    "video": video,
    "array": array,
    "instruction": instruction,
    "options": options,
    "long-options": long_options,
    "loading": loading,
}
