"""The command line's door: every form of a model's weights edits as the library's own folder of it does.

The same forms through the nodes, against the library, are in comfyui/checks/check_doors.py.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

from instructx_core import families
from instructx_core.editor import Editor
from instructx_core.families.overrides import Overrides
from instructx_core.weights.files import read_header
from support import doors, tiny

# The largest difference that rounding makes, a half more. Half of the blocks' weights make 0.085, other words 0.055.
ROUNDED = {
    "fp8": 0.08, "fp8 with scales, as first spelled": 0.015, "fp8 with scales, as spelled now": 0.015, "bf16": 0.01,
    "a lone Qwen in scaled fp8": 0.01, "int8": 0.005, "int8, rotated, said in the metadata": 0.005, "nvfp4": 0.05,
    "mxfp8": 0.015, "a lone Qwen in nvfp4": 0.045,
}  # fmt: skip
TRAINED = "Kiwi-Edit's training checkpoint, with the whole DiT"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("doors")
    doors.save(root)
    return root


def latents(form: str, root: Path, **more: Path) -> torch.Tensor:
    path, given = doors.paths(form, root)
    editor = Editor.from_pretrained(path, device="cpu", dtype=torch.float32, **given | more)
    return editor.edit(tiny.clip(1), "make it snow", steps=1, seed=1, height=64, width=64).latents


@cache
def compared(form: str, root: Path, vae: Path | None) -> torch.Tensor:
    return latents(form, root, **({} if vae is None else {"vae": vae}))


@pytest.mark.parametrize("form", doors.FORMS)
def test_through_the_door_of_the_command_line(form: str, root: Path):
    published = next((other for other in ("Kiwi", "Bernini", "CoinVE") if other in form), None)
    kiwi = TRAINED if "checkpoint" in form else "Kiwi-Edit's folder"
    same = {None: "a folder", "Kiwi": kiwi}.get(published, form.removesuffix(", converted"))
    lone = root / "vae/folder.safetensors" if form == "what was trained alone" else None  # of the published scale
    distance = (latents(form, root) - compared(same, root, lone)).abs().max().item()
    assert 0 < distance < ROUNDED[form] if form in ROUNDED else distance < 1e-4


def test_headers_are_read_once(bundled: Path, monkeypatch: pytest.MonkeyPatch):
    """Loading the bundled model reads its four headers once each."""
    read: list[Path] = []

    def counted(path: Path) -> dict:
        read.append(Path(path))
        return read_header(path)

    for module in ("weights.files", "weights.stored", "families.instructx.folder"):
        monkeypatch.setattr(f"instructx_core.{module}.read_header", counted)
    Editor.from_pretrained(bundled, device="cpu")
    assert len(read) == len(set(read)) == 4


def test_a_match_says_what_a_model_is(root: Path):
    path, given = doors.paths("Kiwi-Edit's training checkpoint, with LoRA", root)
    opened = families.open(path, Overrides(**given))
    assert opened.match.kind == "Kiwi-Edit, a training checkpoint" and len(opened.merged) == 1
