"""Pairs of DiTs made of a folder with one."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from instructx_core.families.components import Components

WEIGHTS = "diffusion_pytorch_model.safetensors"
BOUNDARY = 0.875
MIDDLE = 0.8  # of `paired`: at a shift of 3, between the second and the third of four steps


def save_second(folder: Path) -> Path:
    """Write `transformer_2` beside `transformer`: its first two blocks change places, and it says half as much."""
    first, second = folder / "transformer", folder / "transformer_2"
    second.mkdir()
    shutil.copy(first / "config.json", second)
    swapped = {"blocks.0.": "blocks.1.", "blocks.1.": "blocks.0."}
    state = {}
    for name, value in load_file(first / WEIGHTS).items():
        other = next(
            (there + name.removeprefix(here) for here, there in swapped.items() if name.startswith(here)), name
        )
        state[other] = value * 0.5 if name.startswith("proj_out.") else value
    save_file(state, second / WEIGHTS, {"format": "pt"})
    return second


def paired() -> Components:
    """A model whose DiTs have nothing in common but their sizes, and an embedding for the source."""
    # not above: other authors' code is recorded with libraries that these are not made for
    from instructx_core.config import DenoiserConfig, SourceInjection
    from instructx_core.denoiser import Denoiser
    from instructx_core.denoiser_pair import DenoiserPair
    from support import tiny

    config = replace(tiny.CONFIG, denoiser=DenoiserConfig(SourceInjection.EMBEDDING, boundary=MIDDLE))
    whole = tiny.components(config)
    second = Denoiser(tiny.transformer(1), config.denoiser).eval().requires_grad_(False)
    return replace(whole, denoiser=DenoiserPair(whole.denoiser, second, MIDDLE))


def bernini_pair(model: Path, folder: Path) -> Path:
    """Bernini-R's folder with a pair, as its 14B is published, made of one with a single DiT."""
    shutil.copytree(model, folder)
    save_second(folder)
    said = json.loads((folder / "config.json").read_text())
    said |= {"skip_transformer_2": False, "switch_dit_boundary": BOUNDARY}
    (folder / "config.json").write_text(json.dumps(said))
    return folder
