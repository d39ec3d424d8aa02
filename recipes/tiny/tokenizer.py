"""A small tokenizer in Qwen's format: byte-level, so that any text can be read, with Qwen's special tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from instructx_core.guidance.prompt import IMAGE, VIDEO, VISION_END, VISION_START

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END = "<|im_end|>"
PADDING = "<|endoftext|>"
SPECIAL = (PADDING, "<|im_start|>", END, VISION_START, VISION_END, IMAGE, VIDEO)


def train_tokenizer(corpus: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    """Learn `size` tokens from `corpus`; letter case is folded, since an instruction means the same in any."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(corpus, trainer)
    # repeated because transformers 4 overrides tokenizer.json with this argument, which defaults to False
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PADDING, eos_token=END, add_prefix_space=True)
