"""The tensors of a GGUF file as plain numbers, unpacked one at a time."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from .detect import Form
from .stored import DTYPES
from .streaming import StoredTensor, computed

WIDE = "BF16"  # what packed numbers become


def unpacked(form: Form) -> dict[str, StoredTensor]:
    """A GGUF model's tensors by their names in its file, as they will be written; the file is mapped.

    Those that are stored as numbers keep their type.
    """
    from gguf import GGMLQuantizationType, GGUFReader

    path = form.files[0]
    plain = {GGMLQuantizationType.F32: "F32", GGMLQuantizationType.F16: "F16"}
    tensors = {}
    for entry in GGUFReader(path).tensors:
        shape, dtype = form.stored[entry.name].shape, plain.get(entry.tensor_type, WIDE)
        tensors[entry.name] = computed(dtype, shape, partial(_numbers, entry, shape, dtype), path, entry.name)
    return tensors


def _numbers(entry: Any, shape: tuple[int, ...], dtype: str) -> torch.Tensor:
    from gguf.quants import dequantize

    values = torch.from_numpy(dequantize(entry.data, entry.tensor_type).copy())
    return values.reshape(shape).to(DTYPES[dtype])
