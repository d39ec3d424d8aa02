"""Load a LLaVA from a transformers folder, written by any version, with its tokenizer next to the weights.

LLaVA 1 (Vicuna 1.1, a projector with one linear layer) and 1.5 (two layers) have the same tensors: where the projector
has one layer, the second is the identity (see `families.insightedit.smartedit`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..errors import CheckpointError
from ..words import quoted_path
from .compare import first_difference, shape_of, shapes_of
from .detect import Form
from .files import read_json, read_one_by_one
from .library_load import load_or_explain, load_weights, quietly
from .mllm import data_alone, find_tokenizer, load_tokenizer
from .part_configs import check_llava_config
from .parts import bare_llava
from .quantised import check_readable, unpadded

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import LlavaConfig, LlavaForConditionalGeneration, PreTrainedTokenizerBase

WORDS = "language_model.embed_tokens.weight"


def load_llava(
    form: Form,
    checkpoint: Path,
    dtype: torch.dtype,
    progress: Callable[[int], None] | None = None,
    packed: bool = False,
) -> tuple[LlavaForConditionalGeneration, PreTrainedTokenizerBase]:
    """Like `mllm.load_mllm`, but `packed` is ignored: no LLaVA has packed weights."""
    del packed
    from transformers import LlavaForConditionalGeneration

    words = find_tokenizer(form, checkpoint)
    tokenizer = load_tokenizer(words)
    config = llava_config(form, checkpoint)
    highest = max(load_or_explain(words, tokenizer.get_vocab).values(), default=-1)
    if not 0 <= highest < config.text_config.vocab_size:
        raise CheckpointError(
            f"the tokenizer in {quoted_path(words)} has ids up to {highest}, but the LLaVA's embedding table has only "
            f"{config.text_config.vocab_size} rows; give the tokenizer that it was trained with."
        )
    state = None if progress is None else read_one_by_one(form.files, progress)
    return load_weights(form.path, LlavaForConditionalGeneration, state, config=config, dtype=dtype), tokenizer


def llava_config(form: Form, checkpoint: Path) -> LlavaConfig:
    """The config next to the weights.

    Raises:
        CheckpointError: it is missing, or a value in it is out of range.
    """
    from transformers import LlavaConfig

    path = form.path / "config.json"
    if not form.has_config:
        raise CheckpointError(f"{quoted_path(form.path)} is a LLaVA without its config.json; give its whole folder.")
    plain = data_alone(read_json(path))
    with quietly():
        config = load_or_explain(path, lambda: LlavaConfig.from_dict(plain))
    load_or_explain(path, lambda: check_llava_config(config, path))
    return config


def checked_llava(form: Form, config: LlavaConfig) -> LlavaForConditionalGeneration:
    """Like `mllm.checked_mllm`."""
    from transformers import LlavaForConditionalGeneration

    def build() -> LlavaForConditionalGeneration:
        with torch.device("meta"):
            return LlavaForConditionalGeneration(config)

    model = load_or_explain(form.path, build)
    check_readable(form.stored, form.path)
    wanted, found = (
        {bare_llava(name): value for name, value in held.items()} for held in (model.state_dict(), form.tensors)
    )
    shapes = shapes_of(wanted)
    if odd := first_difference(shapes, unpadded(found, shapes)):
        raise CheckpointError(f"{str(form.path)!r} does not fit its config: {odd}; get it again.")
    return model


def llava_width(form: Form) -> int:
    """The width of the hidden states, from the embedding table."""
    shapes = {bare_llava(name): stored.shape for name, stored in form.tensors.items()}
    return shape_of(shapes, WORDS, 2, form.path)[1]
