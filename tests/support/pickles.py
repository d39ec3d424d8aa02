"""Weights that are pickled, and pickles that do something."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from instructx_core.weights.files import read_safetensors


def pickled(folder: Path, file: str, name: str) -> Path:
    """A copy in which one weight file is a pickle of another name."""
    state, _ = read_safetensors(folder / file)
    (folder / file).unlink()
    torch.save(state, (folder / file).with_name(name))
    return folder


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.flag}",)


@pytest.fixture
def flag(tmp_path: Path) -> Path:
    return tmp_path / "PWNED"


@pytest.fixture(params=["torch.save", "pickle"])
def bomb(request: pytest.FixtureRequest, flag: Path) -> bytes:
    """A pickle in both of PyTorch's forms."""
    if request.param == "pickle":
        return pickle.dumps({"a": Bomb(flag)})
    torch.save({"a": Bomb(flag)}, flag.with_name("bomb.pt"))
    return flag.with_name("bomb.pt").read_bytes()
