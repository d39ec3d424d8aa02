"""Dequantise the tensors of a GGUF file, one at a time."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from .detect import Form
from .stored import DTYPES
from .streaming import StoredTensor, computed

WIDE = "BF16"  # dtype of dequantised values


def unpacked(form: Form) -> dict[str, StoredTensor]:
    """A GGUF model's tensors as they will be written, by their names in the file, which is mapped.

    F32 and F16 tensors keep their dtype.
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
