"""The base models of a training checkpoint of Kiwi-Edit with what was trained merged into them, tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..families.kiwi.trained import Trained, is_trained, read_trained
from ..weights.component_files import Tensors, dit_tensors
from ..weights.detect import Form
from ..weights.streaming import stored_tensors
from ..weights.values import Lora, merged


def changed_dit(source: Path, form: Form, allow_pickle: bool) -> Tensors | None:
    """The DiT of a training checkpoint under diffusers' names; None where it is that of `form` as it is.

    Args:
        source: as `load_model`.
        form: the DiT that it is for, checked with it.
    """
    trained = read_trained(source) if is_trained(source) else None
    if trained is None or not (trained.dit or trained.dit_lora):
        return None
    weights = dit_tensors(trained.form if trained.dit else form, allow_pickle)
    return merged(weights, _pairs(trained, trained.dit_lora), source)


def mllm_loras(source: Path) -> dict[str, Lora]:
    """What a training checkpoint adds to its MLLM, by the weight's name without prefixes; {} for other models."""
    if not is_trained(source):
        return {}
    trained = read_trained(source)
    return _pairs(trained, trained.mllm_lora)


def _pairs(trained: Trained, names: Mapping[str, tuple[str, str]]) -> dict[str, Lora]:
    held = stored_tensors(trained.path)
    return {weight: (held[down], held[up]) for weight, (down, up) in names.items()}
