"""Edits whose numbers are recorded in tests/support/golden, all through the public front door.

A refactor must not change them: nothing here depends on how the library builds, names or joins its parts. The random
models are folders in the library's own layout (golden/random): their JSON files are committed as they were
written, their weights are drawn here from each tensor's name, so that neither the order in which a library makes its
layers nor PyTorch's random numbers matter.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save_file

if TYPE_CHECKING:
    from instructx_core import Editor

GOLDEN = Path(__file__).parent / "golden"
RANDOM = GOLDEN / "random"
KIWI = GOLDEN / "kiwi"  # a Kiwi-Edit as published, with its authors' outputs; see record_kiwi.py
KEPT = 400  # values of a tensor that are recorded, evenly spread over it
LONG = "source-latent"  # the model that edits a long video too
WORDS = "make the red circle blue"
# What a model's `instructx.safetensors` says of it, where two of them differ.
VARIANTS: dict[str, dict[str, Any]] = {
    "source-latent": {"denoiser": {"source": "latent"}},
    "source-embedding": {"denoiser": {"source": "embedding"}, "connector": {"entry": "width", "output_dim": 24}},
    "predicts-change": {"denoiser": {"source": "latent", "prediction": "change", "deadband": 0.3}, "keep_source": 0.2},
    "reference-embedding": {"denoiser": {"source": "embedding", "reference": "embedding", "source_fades": True}},
    "references-first": {
        "denoiser": {
            "source": "embedding",
            "reference": "embedding",
            "references_first": True,
            "reference_margin": "white",
        },
        "sampling": {"sigma_min": 0.003},
    },
}
COMMON: dict[str, Any] = {
    "default_size": [48, 48],
    "default_frames": 5,
    "guidance": {
        "image_queries": 3,
        "video_queries": 5,
        "video_frames": 4,
        "max_pixels": 84 * 84,
        "lora_rank": 2,
        "lora_alpha": 4,
    },
    "connector": {"input_dim": 32, "hidden_dim": 28, "output_dim": 20},
    "sampling": {"steps": 3, "shift": 3.0},
}
# name -> frames, whether with a reference, more of `Editor.edit`
EDITS: dict[str, tuple[int, bool, dict[str, Any]]] = {
    "image": (1, False, {"seed": 1}),
    "clip": (5, False, {"seed": 2}),
    "reference": (5, True, {"seed": 3, "guidance_scale": 2.0}),
}


@dataclass(frozen=True)
class Golden:
    """A model, and what it edits."""

    folder: Path | None = None  # None: `make_random`, or the bundled model
    size: tuple[int, int] = (40, 56)  # height and width of the source
    steps: int | None = None  # None: the model's own


MODELS = {name: Golden() for name in VARIANTS}
MODELS |= {"kiwi": Golden(KIWI, (64, 96), steps=3), "bundled": Golden(size=(64, 80))}


def make_random(name: str, folder: Path) -> Path:
    """The random model `name` of `VARIANTS`, as a folder that `Editor.from_pretrained` takes."""
    config = {"name": name, **COMMON}
    for section, values in VARIANTS[name].items():
        config[section] = {**config.get(section, {}), **values} if isinstance(values, dict) else values
    shapes = json.loads((RANDOM / "shapes.json").read_text(encoding="utf-8"))
    adapter = shapes["instructx.safetensors"]
    width = config["connector"]["output_dim"]
    adapter |= {"connector.linear_out.weight": [width, 28], "connector.linear_out.bias": [width]}
    for kind in ("source", "reference"):
        if config["denoiser"].get(kind) == "embedding":
            adapter[f"denoiser.{kind}_embedding.weight"] = [24, 4, 1, 2, 2]
            adapter[f"denoiser.{kind}_embedding.bias"] = [24]
    shutil.copytree(RANDOM, folder, ignore=shutil.ignore_patterns("shapes.json"))
    for file, tensors in shapes.items():
        metadata = {"instructx-1": json.dumps(config)} if file == "instructx.safetensors" else {"format": "pt"}
        save_file({name: drawn(name, shape) for name, shape in tensors.items()}, folder / file, metadata)
    return folder


def drawn(name: str, shape: list[int]) -> torch.Tensor:
    """float32 values of a tensor by its name: NumPy promises that `RandomState` never gives other numbers."""
    values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    is_scale = "norm" in name and name.endswith(("weight", "gamma"))
    if is_scale or "ln_q.weight" in name:
        return torch.from_numpy(1 + 0.1 * values)
    if len(shape) == 1 or "scale_shift_table" in name:
        return torch.from_numpy(0.2 * values)
    if name.startswith(("queries", "model.embed_tokens")):
        return torch.from_numpy(values)
    return torch.from_numpy(1.2 * values / np.sqrt(np.prod(shape[1:])).astype(np.float32))


def pictures(frames: int, height: int, width: int) -> torch.Tensor:
    """Smooth frames [T, H, W, 3] in [0, 1], each another, of sines alone."""
    t = torch.arange(frames, dtype=torch.float64).view(-1, 1, 1, 1)
    y = torch.linspace(0, 1, height, dtype=torch.float64).view(1, -1, 1, 1)
    x = torch.linspace(0, 1, width, dtype=torch.float64).view(1, 1, -1, 1)
    channel = torch.arange(3, dtype=torch.float64)
    waves = torch.sin(5 * x + 0.4 * t + channel) + torch.cos(7 * y - 0.2 * t + 2 * channel) * x
    return (0.5 + 0.24 * waves).float()


def edits(editor: Editor, size: tuple[int, int], steps: int | None) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Every edit of `EDITS`, with context, latents and frames."""
    for name, (frames, with_reference, more) in EDITS.items():
        reference = pictures(1, 40, 60)[0].flip(0) if with_reference else None
        result = editor.edit(pictures(frames, *size), WORDS, reference, steps, **more)
        yield name, {"context": result.context, "latents": result.latents, "frames": result.frames}


def long_edit(editor: Editor, folder: Path) -> torch.Tensor:
    """A clip of two windows from file to file: means of 16 x 16 pixels [T, h, w, 3], which codecs change little."""
    from instructx_core import edit_video
    from instructx_core.long_video import LongOptions
    from instructx_core.video import VideoReader
    from instructx_core.windows import Span
    from support.video_files import make_video

    frames = (pictures(9, 48, 64) * 255).round().to(torch.uint8).numpy()
    source = make_video(folder / "source.mkv", frames, options={"qp": "0"})
    options = LongOptions(window=Span.parse("5f"), overlap=Span.parse("1f"))
    edit_video(editor, source, folder / "edited.mkv", WORDS, options=options, seed=4)
    with VideoReader(folder / "edited.mkv") as reader:
        edited = torch.stack([frame for frame, _ in reader]).float() / 255
    return edited.unflatten(1, (-1, 16)).unflatten(3, (-1, 16)).mean((2, 4))


def sampled(tensor: torch.Tensor) -> torch.Tensor:
    """At most `KEPT` float32 values of a tensor, evenly spread, and after them its mean and mean square."""
    flat = tensor.detach().float().flatten()
    places = torch.linspace(0, len(flat) - 1, min(KEPT, len(flat)), dtype=torch.float64).round().long()
    return torch.cat([flat[places], flat.mean()[None], flat.square().mean()[None]])


def run(name: str, folder: Path) -> dict[str, torch.Tensor]:
    """What is recorded of a model of `MODELS`; `folder` is an empty one to write to."""
    from instructx_core import Editor

    model = MODELS[name]
    path = make_random(name, folder / "model") if name in VARIANTS else model.folder
    editor = Editor.from_pretrained(path, device="cpu", dtype=torch.float32)
    values = {}
    for edit, parts in edits(editor, model.size, model.steps):
        values |= {f"{edit}.{part}": sampled(value) for part, value in parts.items()}
    if name == LONG:
        values["long.frames"] = sampled(long_edit(editor, folder))
    return values
