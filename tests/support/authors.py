"""Other authors' code, imported from a checkout of theirs to record what it computes.

Their files run unchanged except for the words that a recorder names, replaced in a temporary copy. Packages that their
modules import but that no recorded run calls are stand-ins, unless they are installed.
"""

from __future__ import annotations

import atexit
import importlib.util
import shutil
import sys
import tempfile
import types
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import torch


def copied(checkout: Path, folders: Sequence[str], words: Mapping[str, Mapping[str, str]]) -> Path:
    """A temporary copy of some files and folders of `checkout`, put onto Python's path.

    `words` are the words to replace, of each file.

    Raises:
        SystemExit: a file is not there, or no longer says what is to be replaced.
    """
    copy = Path(tempfile.mkdtemp(prefix="authors-"))
    atexit.register(shutil.rmtree, copy)
    for name in folders:
        there, here = checkout / name, copy / name
        if not there.exists():
            raise SystemExit(f"There is no {there}; give a checkout of the authors' code.")
        here.parent.mkdir(parents=True, exist_ok=True)
        if there.is_dir():
            shutil.copytree(there, here)
        else:
            shutil.copy(there, here)
    for name, replaced in words.items():
        text = (copy / name).read_text(encoding="utf-8")
        for old, new in replaced.items():
            if old not in text:
                raise SystemExit(f"{checkout / name} no longer says {old!r}; this needs an update.")
            text = text.replace(old, new)
        (copy / name).write_text(text, encoding="utf-8")
    sys.path.insert(0, str(copy))
    return copy


class Anything:
    """Stands for whatever is taken from a missing package."""

    def __init__(self, *_given: object, **_named: object) -> None:
        pass

    def __call__(self, *_given: object, **_named: object) -> Anything:
        return self

    def __getattr__(self, name: str) -> Anything:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()


class Missing(types.ModuleType):
    """A package whose every name is `Anything`."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> type[Anything]:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything


def stand_in(*names: str) -> None:
    """Put a stand-in for each package or module that is not installed."""
    for name in names:
        for end in range(1, name.count(".") + 2):
            part = ".".join(name.split(".")[:end])
            if part in sys.modules:
                continue
            if "." not in part and importlib.util.find_spec(part) is not None:
                break
            module = Missing(part)
            module.__spec__ = ModuleSpec(part, None, is_package=True)
            sys.modules[part] = module


@torch.no_grad()
def shake(module: torch.nn.Module, by: float) -> None:
    """Give what begins at zero an effect too, and round every weight to bfloat16, in which it is stored."""
    for parameter in module.parameters():
        parameter.add_(torch.randn_like(parameter) * by).copy_(parameter.bfloat16())


def stored(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors as they are saved: numbers with a point in bfloat16."""
    return {
        name: value.detach().to(torch.bfloat16 if value.is_floating_point() else value.dtype).contiguous()
        for name, value in state.items()
    }


def eight_bits(frames: torch.Tensor) -> torch.Tensor:
    return (frames * 255).round().to(torch.uint8)


def images(frames: torch.Tensor) -> list[Any]:
    from PIL import Image

    return [Image.fromarray(frame.numpy()) for frame in frames]
