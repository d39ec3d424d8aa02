"""Any model that this library reads, told apart by what is in it."""

from __future__ import annotations

from pathlib import Path

import torch

from ..bounded import is_dir, is_file
from ..config import ModelConfig
from ..weights.detect import FOLDERS, Family, Form
from ..weights.files import read_metadata, read_shapes
from ..weights.gguf_header import is_gguf
from ..weights.marks import ADAPTER
from ..weights.pickles import is_pickle
from .components import Components
from .instructx.folder import FORMAT, adapter_path, load_checkpoint, read_config
from .kiwi.folder import is_kiwi, kiwi_adapter_names, load_kiwi, read_kiwi_config
from .kiwi.trained import base_of_trained, is_trained, load_trained, read_trained, read_trained_config
from .overrides import OWN, Base, choose


def load_model(
    path: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, base: Base = OWN
) -> Components:
    """Read a whole model: this repo's own layout, Kiwi-Edit's published one, or a training checkpoint of Kiwi-Edit.

    Args:
        path: the model's folder, or the file of what it adds to base models.
        base: base models that take the place of its own.

    Raises:
        CheckpointError: none of them, or a missing, truncated or damaged file.
    """
    load = load_trained if is_trained(path) else load_kiwi if is_kiwi(path) else load_checkpoint
    return load(path, device, dtype, base)


def read_model_config(path: str | Path) -> ModelConfig:
    """The `ModelConfig` of such a model, without its weights.

    Raises:
        CheckpointError: as `load_model`.
    """
    read = read_trained_config if is_trained(path) else read_kiwi_config if is_kiwi(path) else read_config
    return read(path)


def find_part(path: str | Path, base: Base, family: Family, allow_pickle: bool = False) -> Form:
    """The weights that `load_model` would take for one part, from headers.

    Args:
        allow_pickle: as `find_form`.

    Raises:
        CheckpointError: there are none, or something else is there; or as `load_model`.
    """
    if is_trained(path):
        return base_of_trained(read_trained(path), base, family, allow_pickle)
    own, published = FOLDERS[family][0], FOLDERS[family][-1]
    folder = Path(path) / published if is_kiwi(path) else adapter_path(path).parent / own
    return choose(base.given(family), folder, family, allow_pickle)


def merged_families(path: str | Path) -> set[Family]:
    """The parts whose weights are changed as a model is loaded: those that its own file holds a LoRA for.

    Raises:
        CheckpointError: as `load_model`.
    """
    if not is_trained(path):
        return set()
    trained = read_trained(path)
    loras = {Family.DIT: trained.dit_lora, Family.MLLM: trained.mllm_lora}
    return {family for family, lora in loras.items() if lora}


def adapter_names(path: str | Path) -> dict[Path, dict[str, str]]:
    """Where a model keeps the tensors of `instructx.safetensors`: file -> name there -> name here, from headers.

    Raises:
        CheckpointError: as `load_model`.
    """
    path = Path(path)
    if is_trained(path):
        return {path: {there: own for own, there in read_trained(path).adapter.items()}}
    if is_kiwi(path):
        return kiwi_adapter_names(path)
    return {adapter_path(path): {name: name for name in read_shapes(adapter_path(path))}}


def is_model(path: str | Path) -> bool:
    """Whether `path` is what `load_model` reads: a whole model or what was trained alone, not weights of one part.

    Raises:
        CheckpointError: a file that is damaged or no safetensors.
    """
    path = Path(path)
    if is_dir(path):
        return is_file(path / ADAPTER) or is_kiwi(path)
    lone = is_file(path) and not is_gguf(path) and not is_pickle(path)
    return lone and (FORMAT in read_metadata(path) or is_trained(path))
