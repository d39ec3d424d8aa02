"""A umT5 of random weights, as transformers saves one, with a tokenizer of its own kind."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from support import tiny

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, UMT5EncoderModel


def save_text_encoder(folder: Path, width: int) -> Path:
    """Write a umT5 of so wide hidden states to `folder`, which comes back."""
    text_encoder(width).save_pretrained(folder)
    text_tokenizer().save_pretrained(folder)
    return folder


def text_encoder(width: int) -> UMT5EncoderModel:
    """A umT5 with so wide hidden states, for `text_tokenizer`."""
    from transformers import UMT5Config, UMT5EncoderModel

    torch.manual_seed(0)
    sizes = {"d_model": width, "d_kv": 4, "d_ff": 12, "num_layers": 2, "num_heads": 2}
    model = UMT5EncoderModel(UMT5Config(vocab_size=len(text_tokenizer()), **sizes))
    tiny.shake(model, 0.1)
    return model.eval()


@cache
def text_tokenizer() -> PreTrainedTokenizerFast:
    """Unigrams with `</s>` at the end, as T5's."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=80, special_tokens=special, unk_token="<unk>", show_progress=False)
    words = ["make the red circle blue and remove a green star", "make it grayscale", "make it snow"]
    tokenizer.train_from_iterator(words * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
