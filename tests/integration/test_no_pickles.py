"""A pickle in any place of a model, a pool or a windows folder: nothing runs. Training states: test_training_states."""

from __future__ import annotations

import os
import pickle
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from instructx_core import Editor, InstructXError
from instructx_core.long_video.joining import EditedWindow
from instructx_core.long_video.store import WindowStore
from instructx_core.training.stages import train
from support import tiny
from support.pickles import Bomb
from support.training_runs import SMALL_DATA, read_editing

BESIDE = (
    "pytorch_model.bin", "diffusion_pytorch_model.bin", "model.pt", "training_args.bin", "optimizer.pt", "scheduler.pt",
    "random_states_0.pkl", "custom_checkpoint_0.pkl", "tokenizer.pkl", "vocab.pkl", "tokenizer.model",
    "added_tokens.pkl", "adapter_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip


def test_the_bomb_works(flag: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(flag)))
    assert flag.exists()


def test_pickles_beside_a_model_s_files(model: Path, bomb: bytes, flag: Path) -> None:
    for folder in (model, model / "mllm", model / "transformer", model / "vae"):
        for name in BESIDE:
            (folder / name).write_bytes(bomb)
    try:
        Editor.from_pretrained(model, device="cpu")
    except InstructXError as error:
        assert "\n" not in str(error)
    assert not flag.exists()


def test_pickles_in_place_of_a_model_s_files(saved: Path, tmp_path: Path, bomb: bytes, flag: Path) -> None:
    names = sorted(path.relative_to(saved) for path in saved.rglob("*") if path.is_file())
    for name in names:
        folder = shutil.copytree(saved, tmp_path / "broken", copy_function=os.link)
        (folder / name).unlink()
        (folder / name).write_bytes(bomb)
        with suppress(InstructXError):  # what a loader does not need it may leave alone
            Editor.from_pretrained(folder, device="cpu")
        shutil.rmtree(folder)
        assert not flag.exists(), name


def test_pickles_in_what_a_stage_starts_from(foundation: Path, tmp_path: Path, bomb: bytes, flag: Path) -> None:
    for part, task in (("vae", "autoencoder"), ("mllm", "language")):
        stage = {"vae": "autoencoder", "mllm": "language"}[part]
        folder = shutil.copytree(foundation / stage / "model" / part, tmp_path / part)
        for path in folder.glob("*.safetensors"):
            path.unlink()
        for name in BESIDE:
            (folder / name).write_bytes(bomb)
        config = read_editing(
            foundation, tmp_path / task, task=task, start={part: str(folder)}, steps=1, data=SMALL_DATA
        )
        with pytest.raises(InstructXError):
            train(config)
    assert not flag.exists()


def test_pickles_in_a_pool(foundation: Path, tmp_path: Path, bomb: bytes, flag: Path) -> None:
    names = sorted(path.name for path in (foundation / "pool").iterdir())
    for name in ("notes.pkl", "examples.pt", *names):
        pool = shutil.copytree(foundation / "pool", tmp_path / "pool")
        (pool / name).write_bytes(bomb)
        config = read_editing(foundation, tmp_path / "run", steps=1, data={**SMALL_DATA, "pool": str(pool)})
        if name in names:
            with pytest.raises(InstructXError):
                train(config)
        else:
            train(config)
        shutil.rmtree(pool)
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        assert not flag.exists(), name


def test_pickles_in_a_windows_folder(tmp_path: Path, bomb: bytes, flag: Path) -> None:
    frames = (tiny.clip(3) * 255).round().to(torch.uint8)
    for name in ("00000.safetensors", "00001.safetensors", "manifest.json", "notes.pkl"):
        store = WindowStore(tmp_path / "out.mp4")
        store.open({"a": 1})
        store.save(0, EditedWindow(frames, torch.zeros(1, 4, 1, 6, 6)))
        (store.folder / name).write_bytes(bomb)
        store = WindowStore(tmp_path / "out.mp4")
        with suppress(InstructXError):  # a manifest of somebody else's is refused
            for index in range(store.open({"a": 1})):
                store.load(index)
        shutil.rmtree(store.folder)
        assert not flag.exists(), name
