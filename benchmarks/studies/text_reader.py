"""A small umT5 of the real class for the study's text-only arm; Wan's has 5.7 billion parameters.

Its weights are random and stay frozen. That still gives each word of the world its own features, and in an earlier
stage the DiT learns to draw from these, as Wan's has learnt to draw from umT5's.
"""

from __future__ import annotations

from pathlib import Path

import torch

from instructx_core.atomic import atomic_folder
from recipes.tiny.questions import corpus

SIZES = {"d_kv": 32, "d_ff": 64, "num_layers": 1, "num_heads": 2}


def text_reader(folder: Path, width: int) -> Path:
    """The folder of a umT5 with hidden states of `width` values, created if it is missing."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

    if folder.is_dir():
        return folder
    words = Tokenizer(models.WordLevel(unk_token="<unk>"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    trainer = trainers.WordLevelTrainer(special_tokens=list(special.values()), show_progress=False)
    words.train_from_iterator(corpus(), trainer)
    torch.manual_seed(0)
    model = UMT5EncoderModel(UMT5Config(vocab_size=words.get_vocab_size(), d_model=width, **SIZES))
    with atomic_folder(folder) as partial:
        model.save_pretrained(partial)
        PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(partial)
    return folder
