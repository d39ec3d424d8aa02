"""The prompt around an instruction, in Qwen2.5-VL's chat form: source, references, instruction, then the queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
IMAGE, VIDEO = "<|image_pad|>", "<|video_pad|>"
BEFORE = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
AFTER = "<|im_end|>\n<|im_start|>assistant\n"


def prompt_tokens(
    tokenizer: PreTrainedTokenizerBase, instruction: str, picture_tokens: Sequence[int], is_video: bool
) -> list[int]:
    """Token ids of everything before the queries.

    Args:
        picture_tokens: places in the sequence that each picture fills: the source first, then the references.
        is_video: whether the source is one, which has a placeholder of its own.
    """
    placeholders = [VIDEO if is_video else IMAGE, *[IMAGE] * len(picture_tokens)]
    vision = "".join(
        f"{VISION_START}{placeholder * count}{VISION_END}"
        for placeholder, count in zip(placeholders, picture_tokens, strict=False)
    )
    return tokenizer(BEFORE + vision + plain_words(instruction) + AFTER, add_special_tokens=False)["input_ids"]


def plain_words(instruction: str) -> str:
    """A person's words, which are never a placeholder or the end of the turn."""
    return instruction.replace("<|", "< |")
