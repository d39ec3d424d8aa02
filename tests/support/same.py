"""Two models are the same, bit for bit: as files, as what they load as."""

from __future__ import annotations

from pathlib import Path

import torch

from instructx_core.families.components import Components
from instructx_core.families.overrides import Overrides
from instructx_core.weights.files import read_safetensors
from support.opening import load

Weights = dict[str, dict[str, torch.Tensor]]  # file -> its tensors


def weights(folder: Path) -> Weights:
    files = sorted(folder.rglob("*.safetensors"))
    return {path.relative_to(folder).as_posix(): read_safetensors(path)[0] for path in files}


def assert_same(found: Weights, expected: Weights) -> None:
    """The same files with the same tensors, bit for bit."""
    assert found.keys() == expected.keys()
    for file, state in expected.items():
        assert found[file].keys() == state.keys(), file
        for name, value in state.items():
            assert found[file][name].dtype == value.dtype
            assert torch.equal(found[file][name], value), (file, name)


def assert_same_model(found: Path, source: Path, base: Overrides, dtype: torch.dtype) -> None:
    """The folder loads as what the same model and base models load as, bit for bit."""
    one, other = load(found, dtype=dtype), load(source, dtype=dtype, base=base)
    assert one.config == other.config
    for part in ("guidance", "connector", "denoiser", "codec"):
        first, second = getattr(one, part).state_dict(), getattr(other, part).state_dict()
        assert first.keys() == second.keys()
        for name, value in second.items():
            assert first[name].dtype == value.dtype and torch.equal(first[name], value), name
    words = "Make the sky golden, 1234!"
    assert one.guidance.tokenizer(words)["input_ids"] == other.guidance.tokenizer(words)["input_ids"]


def tensors(components: Components) -> dict[str, torch.Tensor]:
    parts = {
        "guidance": components.guidance,
        "connector": components.connector,
        "denoiser": components.denoiser,
        "vae": components.codec.vae,
    }
    return {f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()}


def assert_same_tensors(first: Components, second: Components) -> None:
    one, other = tensors(first), tensors(second)
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.dtype == other[name].dtype and torch.equal(value, other[name]), name
