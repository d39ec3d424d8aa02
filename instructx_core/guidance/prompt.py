"""The prompt of an instruction, in Qwen2.5-VL's chat template: source, references, instruction, then the queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_TOKENS = 4096  # of an instruction; attention over 8,000 takes 13 s on a CPU, over 25,000 minutes
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
IMAGE, VIDEO = "<|image_pad|>", "<|video_pad|>"
BEFORE = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
AFTER = "<|im_end|>\n<|im_start|>assistant\n"


def prompt_tokens(
    tokenizer: PreTrainedTokenizerBase, instruction: str, picture_tokens: Sequence[int], is_video: bool
) -> list[int]:
    """Token ids of everything before the queries.

    Args:
        picture_tokens: number of tokens of each picture: the source first, then the references.
        is_video: whether the source is a video, which has its own placeholder.
    """
    placeholders = [VIDEO if is_video else IMAGE, *[IMAGE] * len(picture_tokens)]
    vision = "".join(
        f"{VISION_START}{placeholder * count}{VISION_END}"
        for placeholder, count in zip(placeholders, picture_tokens, strict=False)
    )
    return tokenizer(BEFORE + vision + plain_words(tokenizer, instruction) + AFTER, add_special_tokens=False)[
        "input_ids"
    ]


def plain_words(tokenizer: PreTrainedTokenizerBase, instruction: str) -> str:
    """The user's words, changed so that they cannot contain a placeholder or end the turn.

    Raises:
        InputError: they are more than `MOST_TOKENS` tokens.
    """
    words = instruction.replace("<|", "< |")
    if len(words.encode()) > MOST_TOKENS:  # a token is at least one byte
        count = len(tokenizer(words, add_special_tokens=False)["input_ids"])
        if count > MOST_TOKENS:
            raise InputError(f"The instruction has {count} tokens; give at most {MOST_TOKENS}, some 3,000 words.")
    return words
