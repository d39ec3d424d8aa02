"""The model that reads an instruction: an MLLM or umT5, depending on a form's tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from . import llava, mllm, text_encoder
from .build import names_in_file
from .detect import Form
from .packed_linear import outline_packed
from .parts import Names, bare_mllm, bare_text

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class _Reader:
    """The functions below, for one kind of reader."""

    load: Callable[..., tuple[Any, Any]]
    config: Callable[[Form, Path], Any]
    checked: Callable[[Form, Any], Any]
    width: Callable[[Form], int]


_QWEN = _Reader(mllm.load_mllm, mllm.mllm_config, mllm.checked_mllm, mllm.mllm_width)
_READERS = {
    Names.TEXT: _Reader(
        text_encoder.load_text_encoder,
        lambda form, _checkpoint: text_encoder.text_encoder_config(form),
        lambda form, _config: text_encoder.checked_text_encoder(form),
        lambda form: text_encoder.text_encoder_config(form).d_model,
    ),
    Names.LLAVA: _Reader(llava.load_llava, llava.llava_config, llava.checked_llava, llava.llava_width),
}


def load_reader(
    form: Form,
    checkpoint: Path,
    dtype: torch.dtype,
    progress: Callable[[int], None] | None = None,
    packed: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """See `mllm.load_mllm`."""
    return _reader(form).load(form, checkpoint, dtype, progress, packed)


def reader_config(form: Form, checkpoint: Path) -> PreTrainedConfig:
    """See `mllm.mllm_config`."""
    return _reader(form).config(form, checkpoint)


def checked_reader(form: Form, config: PreTrainedConfig) -> PreTrainedModel:
    """See `mllm.checked_mllm`."""
    return _reader(form).checked(form, config)


def outline_packed_reader(model: PreTrainedModel, form: Form, dtype: torch.dtype) -> None:
    """Put packed layers into a model on the meta device, as `load_reader` with `packed` would."""
    bare = bare_text if form.names is Names.TEXT else bare_mllm
    if form.is_scaled and form.names is not Names.LLAVA and getattr(model.config, "quantization_config", None) is None:
        outline_packed(model, form, names_in_file(model, form, bare), dtype)


def reader_width(form: Form) -> int:
    """The width of the hidden states."""
    return _reader(form).width(form)


def _reader(form: Form) -> _Reader:
    return _READERS.get(form.names, _QWEN)
