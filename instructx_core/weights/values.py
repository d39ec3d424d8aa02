"""Weights of any form as tensors of a file to write: copied, or computed one by one.

- Most are copied bit for bit, whatever their type.
- 8-bit floats with a scale become bfloat16, what they are computed in on a GPU; those without are copied.
- The LoRA of a training checkpoint is merged, in float32, into the type that the weight has.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from ..errors import CheckpointError
from .detect import Form
from .float8 import check_scales, is_beside, scale_of, widened
from .lora_changes import add_pair
from .stored import DTYPES, EIGHT_BITS
from .streaming import StoredTensor, computed, stored_tensors

WIDE = "BF16"  # what 8-bit floats become that are not copied

Lora = tuple[StoredTensor, StoredTensor]  # A [rank, in], B [out, rank]


def form_tensors(form: Form, allow_pickle: bool = False) -> dict[str, StoredTensor]:
    """A model's own tensors, by their names in its files, as they will be written.

    Raises:
        CheckpointError: GGUF, tensors that are packed, or pickles that nobody allowed.
    """
    if form.is_gguf:
        raise CheckpointError(
            f"{str(form.path)!r} is GGUF, whose packed blocks converting does not unpack; give the bf16, fp16 or fp8 "
            "file of this model."
        )
    check_scales(form.stored, form.path)
    held = {name: (file, stored) for file in form.files for name, stored in stored_tensors(file, allow_pickle).items()}
    scales = {name: stored for name, (_, stored) in held.items()}
    return {
        name: _unscaled(stored, scale, file, name) if (scale := scale_of(name, scales)) else stored
        for name, (file, stored) in held.items()
        if name in form.tensors and not is_beside(name)
    }


def merged(weights: Mapping[str, StoredTensor], loras: Mapping[str, Lora], path: Path) -> dict[str, StoredTensor]:
    """Weights [out, in] with B A added to those that have a LoRA, whose names and shapes were checked.

    Args:
        path: of the LoRA, to name.
    """
    return dict(weights) | {name: _with_lora(weights[name], *pair, path, name) for name, pair in loras.items()}


def value(stored: StoredTensor) -> torch.Tensor:
    """The tensor itself, read into memory."""
    data = bytearray()
    for chunk in stored.content.chunks():
        data += chunk
    dtype = DTYPES[stored.dtype]
    return (torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)).reshape(stored.shape)


def _unscaled(stored: StoredTensor, scale: StoredTensor, path: Path, name: str) -> StoredTensor:
    return computed(WIDE, stored.shape, lambda: widened(value(stored), value(scale)).to(DTYPES[WIDE]), path, name)


def _with_lora(weight: StoredTensor, down: StoredTensor, up: StoredTensor, path: Path, name: str) -> StoredTensor:
    kind = WIDE if weight.dtype in EIGHT_BITS else weight.dtype

    def make() -> torch.Tensor:
        whole = value(weight).float()
        add_pair(whole, value(down), value(up))
        return whole.to(DTYPES[kind])

    return computed(kind, weight.shape, make, path, name)
