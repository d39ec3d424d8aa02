"""Models on the disk and on the Hub: a loaded one edits the same, nothing is fetched unasked, errors name the cause."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest
import torch

from instructx_core import CheckpointError, Editor, InputError
from instructx_core.config import SourceInjection
from support import tiny

WORDS = "make the red circle blue"
CLIP = tiny.clip(5, 48, 48)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        pytest.fail("the network was touched")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def folder(tiny_editor: Editor, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("models") / "model"
    tiny_editor.save_pretrained(path)
    return path


@pytest.mark.parametrize("download", [False, True])
def test_a_saved_model_edits_the_same(folder: Path, tiny_editor: Editor, download: bool, offline):
    editor = Editor.from_pretrained(folder, device="cpu", download=download)
    again, first = (one.edit(CLIP[0], WORDS).frames for one in (editor, tiny_editor))
    torch.testing.assert_close(again, first, atol=1e-5, rtol=0)


@pytest.mark.parametrize("source", tiny.DIT_SOURCES)
def test_bfloat16(source: SourceInjection, tmp_path: Path):
    exact = Editor(tiny.components(tiny.with_source(source)))
    exact.save_pretrained(tmp_path / "model")
    editor = Editor.from_pretrained(tmp_path / "model", device="cpu", dtype=torch.bfloat16)
    reference = tiny.clip(1, seed=4)[0]
    options = {"reference": reference, "guidance_scale": 1.5}
    result, expected = editor.edit(CLIP, WORDS, **options), exact.edit(CLIP, WORDS, **options)
    assert result.frames.dtype == result.latents.dtype == torch.float32
    error = (result.latents - expected.latents).abs().mean() / expected.latents.abs().mean()
    assert error < 0.02  # found 0.0045 at most; of half the blocks' weights 0.076


def test_hub_names_are_fetched_only_on_request(folder: Path, monkeypatch, offline):
    import huggingface_hub

    for name in ("owner/name", "no where", "/nowhere/at/all"):
        with pytest.raises(CheckpointError, match=f"{name}.*download=True"):
            Editor.from_pretrained(name)
    asked = []

    def snapshot(name: str, allow_patterns: list[str]) -> str:
        asked.append(name)
        assert not any("bin" in pattern or pattern == "*" for pattern in allow_patterns)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    Editor.from_pretrained("owner/name", device="cpu", download=True)
    assert asked == ["owner/name"]


@pytest.mark.parametrize("failure", [OSError("no connection"), ValueError("not a repo id")])
def test_a_failed_download_is_a_checkpoint_error(failure: Exception, monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    def fail(*args: object, **options: object) -> None:
        raise HFValidationError(str(failure)) if isinstance(failure, ValueError) else failure

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(CheckpointError, match="owner/name.*could not be fetched"):
        Editor.from_pretrained("owner/name", device="cpu", download=True)


@pytest.mark.parametrize("device", ["abacus", "cuda:99", "cpu0", ""])
def test_a_device_that_is_not_there(device: str, folder: Path):
    with pytest.raises(InputError, match="no device .* here; use cpu, cuda .*, or mps"):
        Editor.from_pretrained(folder, device=device)


def test_a_folder_that_a_killed_save_left_aside_returns(folder: Path, tmp_path: Path):
    aside, partial = (tmp_path / f".model.0123456789ab.{kind}" for kind in ("old", "partial"))
    shutil.copytree(folder, aside)
    partial.mkdir()
    Editor.from_pretrained(tmp_path / "model", device="cpu")
    assert sorted(tmp_path.iterdir()) == [partial, tmp_path / "model"]  # which may be another save's


def test_a_folder_of_something_else(tmp_path: Path):
    with pytest.raises(CheckpointError, match="not an InstructX model"):
        Editor.from_pretrained(tmp_path, device="cpu")
