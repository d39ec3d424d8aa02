"""Weights of any form as tensors to write to a file: copied, or computed one by one.

- Most are copied bit for bit, whatever their dtype.
- Quantised weights, including GGUF's, become bfloat16, the dtype in which a GPU computes with them; 8-bit floats
  without a scale are copied.
- A training checkpoint's LoRA is merged in float32 and stored in the weight's dtype.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from .compare import Shapes
from .detect import Form
from .lora_changes import add_pair
from .quantised import beside, check_readable, is_beside, widened, without_filling
from .stored import DTYPES, EIGHT_BITS, Stored
from .streaming import StoredTensor, computed, stored_tensors
from .unpacking import unpacked

WIDE = "BF16"  # dtype of quantised weights that are not copied

Lora = tuple[StoredTensor, StoredTensor]  # A [rank, in], B [out, rank]


def form_tensors(form: Form, allow_pickle: bool = False) -> dict[str, StoredTensor]:
    """A model's own tensors as they will be written, by their names in its files.

    Raises:
        CheckpointError: an unknown packing, or pickles without `allow_pickle`.
    """
    if form.is_gguf:
        return unpacked(form)
    check_readable(form.stored, form.path)
    held = {name: (file, stored) for file in form.files for name, stored in stored_tensors(file, allow_pickle).items()}
    tensors = {name: stored for name, (_, stored) in held.items()}
    made = {}
    for name, (file, stored) in held.items():
        if name in form.tensors and not is_beside(name):
            around, said = beside(name, tensors), form.stored[name]
            made[name] = _plain(stored, around, said, file, name) if around or said.packing else stored
    return made


def merged(weights: Mapping[str, StoredTensor], loras: Mapping[str, Lora], path: Path) -> dict[str, StoredTensor]:
    """Weights [out, in], with B A added to those that have a LoRA; names and shapes must have been checked.

    Args:
        path: of the LoRA, for errors.
    """
    return dict(weights) | {name: _with_lora(weights[name], *pair, path, name) for name, pair in loras.items()}


def value(stored: StoredTensor) -> torch.Tensor:
    """Read the tensor into memory."""
    data = bytearray()
    for chunk in stored.content.chunks():
        data += chunk
    dtype = DTYPES[stored.dtype]
    return (torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)).reshape(stored.shape)


def trimmed(tensors: Mapping[str, StoredTensor], shapes: Shapes, path: Path) -> dict[str, StoredTensor]:
    """Tensors to write, without the padding of quantised ones."""

    def one(name: str, held: StoredTensor) -> StoredTensor:
        shape = shapes.get(name, held.shape)
        if shape == held.shape:
            return held
        return computed(held.dtype, shape, lambda: without_filling(value(held), shape), path, name)

    return {name: one(name, held) for name, held in tensors.items()}


def _plain(
    stored: StoredTensor, around: Mapping[str, StoredTensor], said: Stored, path: Path, name: str
) -> StoredTensor:
    def make() -> torch.Tensor:
        held = {leaf: value(tensor) for leaf, tensor in around.items()}
        return without_filling(widened(value(stored), held, said.packing), said.shape).to(DTYPES[WIDE])

    return computed(WIDE, said.shape, make, path, name)


def _with_lora(weight: StoredTensor, down: StoredTensor, up: StoredTensor, path: Path, name: str) -> StoredTensor:
    kind = WIDE if weight.dtype in EIGHT_BITS else weight.dtype

    def make() -> torch.Tensor:
        whole = value(weight).float()
        add_pair(whole, value(down), value(up))
        return whole.to(DTYPES[kind])

    return computed(kind, weight.shape, make, path, name)
