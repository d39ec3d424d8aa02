"""What reads an instruction, a Qwen2.5-VL or a umT5 by itself: recognised by the tensors of a form."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .detect import Form
from .mllm import checked_mllm, load_mllm, mllm_config, mllm_width
from .text_encoder import checked_text_encoder, load_text_encoder, text_encoder_config

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


def load_reader(
    form: Form, checkpoint: Path, dtype: torch.dtype, progress: Callable[[int], None] | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """See `mllm.load_mllm`."""
    return (load_text_encoder if form.is_text else load_mllm)(form, checkpoint, dtype, progress)


def reader_config(form: Form, checkpoint: Path) -> PreTrainedConfig:
    """See `mllm.mllm_config`."""
    return text_encoder_config(form) if form.is_text else mllm_config(form, checkpoint)


def checked_reader(form: Form, config: PreTrainedConfig) -> PreTrainedModel:
    """See `mllm.checked_mllm`."""
    return checked_text_encoder(form) if form.is_text else checked_mllm(form, config)


def reader_width(form: Form) -> int:
    """The width of the hidden states."""
    return text_encoder_config(form).d_model if form.is_text else mllm_width(form)
