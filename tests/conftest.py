"""Fixtures that several test files share, and the environment that all of them run in."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from support import environment

environment.settle()  # before a library reads it

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image

from instructx_core.config import ContextEntry, SourceInjection
from instructx_core.families.instructx.folder import BUNDLED, save_checkpoint
from instructx_core.weights.marks import ADAPTER
from support import comfyui, golden_runs, tiny
from support.base_parts import save_base_parts
from support.inverter import inverting  # noqa: F401
from support.pickles import bomb, flag  # noqa: F401
from support.public_sets import sets  # noqa: F401
from support.training_runs import foundation  # noqa: F401

if TYPE_CHECKING:
    from instructx_core import Editor
    from instructx_core.families.components import Components


# how long an example takes says more about what else the machine is doing than about the code
settings.register_profile("default", deadline=None)
settings.load_profile("default")


def pytest_configure() -> None:
    """Where pytest-xdist has a process on each core, threads of their own would only be in each other's way."""
    environment.calm_warnings()
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ["OMP_NUM_THREADS"] = "1"  # for processes that tests start
        torch.set_num_threads(1)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What the library warns of."""
    caplog.set_level(logging.WARNING, "instructx_core")
    return caplog


@pytest.fixture
def idle() -> Iterator[None]:
    """Fails the test when a layer of any model computes: what is refused is refused before that."""

    def fail(module: torch.nn.Module, _inputs: object) -> None:
        pytest.fail(f"work began in {type(module).__name__}")

    with torch.nn.modules.module.register_module_forward_pre_hook(fail):
        yield


@pytest.fixture(scope="session")
def tiny_components() -> Components:
    """A whole model with random weights; read-only."""
    return tiny.components()


@pytest.fixture(scope="session")
def tiny_editor(tiny_components: Components) -> Editor:
    """The same behind the front door."""
    from instructx_core import Editor

    return Editor(tiny_components)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory, tiny_components: Components) -> Path:
    """The tiny model as a folder; read-only."""
    folder = tmp_path_factory.mktemp("models") / "model"
    save_checkpoint(tiny_components, folder)
    return folder


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as a folder whose DiT has Wan's heads of 128, so that its parts can lie elsewhere; read-only."""
    folder = tmp_path_factory.mktemp("models") / "whole"
    config = comfyui.config("whole", SourceInjection.EMBEDDING, ContextEntry.WIDTH)
    save_checkpoint(comfyui.components(config), folder)
    return folder


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    """A copy of it, to change or to break."""
    return shutil.copytree(saved, tmp_path / "model")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A small picture of noise, alone in its folder."""
    path = tmp_path / "in.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture(scope="session")
def kiwi() -> Path:
    """A tiny Kiwi-Edit in its published layout, with what its authors' code makes of it; read-only."""
    return golden_runs.KIWI


@pytest.fixture(scope="session")
def bundled() -> Path:
    """The folder of the bundled model."""
    assert (BUNDLED / ADAPTER).is_file(), f"The bundled model is missing: nothing in {BUNDLED}."
    return BUNDLED


@pytest.fixture(scope="session")
def base_parts(bundled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model's MLLM, VAE and DiT in a folder, as base models are: the DiT predicts a velocity; read-only."""
    return save_base_parts(bundled, tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def bundled_editor(bundled: Path) -> Editor:
    """The bundled model on the CPU."""
    from instructx_core import Editor

    return Editor.from_pretrained(device="cpu", dtype=torch.float32)
