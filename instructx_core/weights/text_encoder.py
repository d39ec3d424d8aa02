"""Load a umT5 encoder from transformers folders, such as Wan's `text_encoder/`, or single files as in ComfyUI.

Its config is derived from tensor shapes; all other values are the same in every umT5 size.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..errors import CheckpointError
from .build import fill_reader, loaded_dtype, read_tensors
from .compare import count_layers, first_difference, shape_of, shapes_of
from .detect import Form
from .library_load import load_or_explain, load_weights
from .mllm import find_tokenizer, load_tokenizer
from .parts import bare_text
from .quantised import check_readable, unpadded, without_filling

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedTokenizerBase, UMT5Config, UMT5EncoderModel

LAYER = "encoder.block.{}.layer.0.SelfAttention.q.weight"
SECOND_NAME = "encoder.embed_tokens.weight"  # of the embedding table, which some files hold twice


def load_text_encoder(
    form: Form,
    checkpoint: Path,
    dtype: torch.dtype,
    progress: Callable[[int], None] | None = None,
    packed: bool = False,
) -> tuple[UMT5EncoderModel, PreTrainedTokenizerBase]:
    """Like `mllm.load_mllm`, for a umT5 encoder."""
    from transformers import UMT5EncoderModel

    words = find_tokenizer(form, checkpoint)
    tokenizer, config = load_tokenizer(words), text_encoder_config(form)
    highest = max(load_or_explain(words, tokenizer.get_vocab).values(), default=-1)
    if not 0 <= highest < config.vocab_size:
        raise CheckpointError(
            f"the tokenizer in {str(words)!r} has ids up to {highest}, but the umT5's embedding table has only "
            f"{config.vocab_size} rows; give the tokenizer that it was trained with."
        )
    model = checked_text_encoder(form)
    shapes = shapes_of(model.state_dict())
    if packed and form.is_scaled:
        return fill_reader(UMT5EncoderModel, config, form, dtype, bare_text), tokenizer
    state = {}
    for name, value in read_tensors(form):
        if (bare := bare_text(name)) != SECOND_NAME:
            state[bare] = without_filling(value, shapes[bare]).to(loaded_dtype(model, bare, dtype))
        if progress is not None:
            progress(value.nbytes)
    return load_weights(form.path, UMT5EncoderModel, state, config=config, dtype=dtype), tokenizer


def text_encoder_config(form: Form) -> UMT5Config:
    """The config of the umT5 in `form`, from the shapes of its tensors.

    Raises:
        CheckpointError: a tensor is missing, or the attention's width is not a multiple of its number of heads.
    """
    from transformers import UMT5Config

    shapes = {bare_text(name): stored.shape for name, stored in form.tensors.items()}
    vocabulary, width = shape_of(shapes, "shared.weight", 2, form.path)
    inner, _ = shape_of(shapes, LAYER.format(0), 2, form.path)
    bias = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    buckets, heads = shape_of(shapes, bias, 2, form.path)
    feed_forward, _ = shape_of(shapes, "encoder.block.0.layer.1.DenseReluDense.wi_0.weight", 2, form.path)
    if inner % heads:
        raise CheckpointError(
            f"{str(form.path)!r} is a damaged umT5: its attention is {inner} wide, which is not a multiple of its "
            f"{heads} heads; get it again."
        )
    return UMT5Config(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=inner // heads,
        d_ff=feed_forward,
        num_layers=count_layers(shapes, LAYER),
        num_heads=heads,
        relative_attention_num_buckets=buckets,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,  # never trained here
    )


def checked_text_encoder(form: Form) -> UMT5EncoderModel:
    """A umT5 encoder on the meta device, after checking that `form` has all of its tensors.

    Raises:
        CheckpointError: tensors are missing or in an unsupported form.
    """
    from transformers import UMT5EncoderModel

    config = text_encoder_config(form)
    with torch.device("meta"):
        model = UMT5EncoderModel(config)
    check_readable(form.stored, form.path)
    wanted = {name: value for name, value in shapes_of(model.state_dict()).items() if name != SECOND_NAME}
    found = {bare_text(name): stored for name, stored in form.tensors.items()}
    found = {name: shape for name, shape in unpadded(found, wanted).items() if name != SECOND_NAME}
    if odd := first_difference(wanted, found):
        raise CheckpointError(f"{str(form.path)!r} is not a complete umT5: {odd}; get it again.")
    return model
