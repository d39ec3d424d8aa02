"""The command line's door: every form of a model's weights edits as the library's own folder of it does.

The same forms through the nodes, against the library, are in comfyui/checks/check_doors.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from instructx_core import families
from instructx_core.editor import Editor
from instructx_core.families.overrides import Overrides
from instructx_core.weights.files import read_header
from support import doors, tiny

ROUNDED = ("fp8", "bf16", "scaled", "int8", "nvfp4")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("doors")
    doors.save(root)
    return root


def latents(form: str, root: Path) -> torch.Tensor:
    path, given = doors.paths(form, root)
    editor = Editor.from_pretrained(path, device="cpu", dtype=torch.float32, **given)
    return editor.edit(tiny.clip(1), "make it snow", steps=1, seed=1, height=64, width=64).latents


@pytest.mark.parametrize("form", doors.FORMS)
def test_through_the_door_of_the_command_line(form: str, root: Path):
    kiwi = "Kiwi" in form
    published = next((other for other in ("Kiwi", "Bernini", "CoinVE") if other in form), None)
    same = {None: "a folder", "Kiwi": "Kiwi-Edit's folder"}.get(published, form.removesuffix(", converted"))
    expected = latents(same, root)
    distance = (latents(form, root) - expected).abs().max().item()
    if "alone" in form or (kiwi and "checkpoint" in form):
        return  # a lone VAE has the published scale, not this model's: what counts is that the doors agree
    rounded = any(word in form for word in ROUNDED)
    assert 0 < distance < 1 if rounded else distance < 1e-4


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
