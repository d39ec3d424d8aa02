"""Stage 0b: train a Qwen2.5-VL on the world's language, in place of the paper's pre-trained MLLM.

It answers questions about pictures and clips (what, where, how many, what would this instruction change); only the
answer's tokens count in the loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from instructx_core.config import GuidanceConfig
from instructx_core.errors import InputError
from instructx_core.guidance.encoder import embed, join_pictures, pad_left
from instructx_core.guidance.frames import sample_indices
from instructx_core.guidance.positions import positions
from instructx_core.guidance.prompt import prompt_tokens
from instructx_core.guidance.vision import to_patches
from instructx_core.training.data.world import check_photographs
from instructx_core.validation import FieldError, converted
from instructx_core.weights.detect import find_form
from instructx_core.weights.mllm import load_mllm
from instructx_core.weights.parts import Part
from instructx_core.words import shown
from instructx_core.world import HELD_OUT_SEED

from .config import TinyTrainConfig
from .questions import corpus, sample_question
from .sizes import check_numbers, check_sized
from .tokenizer import END, PADDING, SPECIAL, train_tokenizer

LEAST_VOCABULARY = 300  # bytes and special tokens
MOST_VOCABULARY = 1_000_000


@dataclass(frozen=True)
class QuestionBatch:
    """Questions with their answers, padded on the left."""

    token_ids: torch.Tensor  # int64 [B, L]
    attention_mask: torch.Tensor  # bool [B, L]
    position_ids: torch.Tensor  # int64 [3, B, L]
    is_answer: torch.Tensor  # bool [B, L]: tokens to predict
    patches: torch.Tensor
    grids: torch.Tensor

    def __len__(self) -> int:
        return len(self.token_ids)


class Answering(nn.Module):
    """A batch of questions -> cross-entropy of the answers."""

    def __init__(self, mllm: nn.Module) -> None:
        super().__init__()
        self.mllm = mllm

    def forward(self, batch: QuestionBatch, generator: torch.Generator) -> dict[str, torch.Tensor]:
        device = next(self.parameters()).device
        moved = QuestionBatch(**{name: value.to(device) for name, value in vars(batch).items()})
        embeds = embed(self.mllm, moved.token_ids, moved.patches, moved.grids)
        hidden = self.mllm.model.language_model(
            inputs_embeds=embeds, attention_mask=moved.attention_mask, position_ids=moved.position_ids, use_cache=False
        ).last_hidden_state
        wanted = moved.is_answer[:, 1:]
        logits, answers = self.mllm.lm_head(hidden[:, :-1][wanted]), moved.token_ids[:, 1:][wanted]
        right = (logits.argmax(-1) == answers).float().mean()
        return {"loss": F.cross_entropy(logits.float(), answers), "tokens_right": right}


class LanguageTask:
    """Trains a `Qwen2_5_VLForConditionalGeneration`, built from `config.model` or loaded from `config.start`."""

    def __init__(self, config: TinyTrainConfig) -> None:
        self.config = config
        check_photographs(config.data)
        try:
            self.guidance = converted(GuidanceConfig, config.model.get("guidance", {}), "model.guidance.")
        except FieldError as error:
            raise InputError(f"In the model section of the training config, {error}.") from error
        if "mllm" in config.start:
            start = Path(config.start["mllm"])
            self.mllm, self.tokenizer = load_mllm(find_form(start, Part.MLLM), start, torch.float32)
        else:
            sizes = config.model
            check_numbers(sizes, "model")
            planned = _Planned(sizes["vocabulary"])
            check_sized(lambda: build_mllm(sizes, planned), "model")
            self.tokenizer = train_tokenizer(corpus(config.data.variety), sizes["vocabulary"])
            torch.manual_seed(config.seed)
            self.mllm = build_mllm(sizes, self.tokenizer)
        self.module = Answering(self.mllm)

    def batch(self, generator: torch.Generator, is_video: bool) -> QuestionBatch:
        data = self.config.data
        size = data.video_batch if is_video else data.image_batch
        height, width = data.sizes[pick(len(data.sizes), generator)]
        frames = data.lengths[pick(len(data.lengths), generator)] if is_video else 1
        seeds = torch.randint(HELD_OUT_SEED, (size,), generator=generator).tolist()
        sequences, places, pictures, answer_lengths = [], [], [], []
        for seed in seeds:
            question = sample_question(seed, frames=frames, height=height, width=width, variety=data.variety)
            pixels = torch.from_numpy(question.frames)
            shown = pixels[sample_indices(len(pixels), self.guidance.video_frames)]
            patches = to_patches(shown, self.guidance.min_pixels, self.guidance.max_pixels)
            ids = prompt_tokens(self.tokenizer, question.question, [patches.tokens], is_video)
            answer = self.tokenizer(question.answer + END, add_special_tokens=False)["input_ids"]
            sequences.append(ids + answer)
            answer_lengths.append(len(answer))
            places.append(self._positions(sequences[-1], patches.grid))
            pictures.append(patches)
        token_ids, mask, position_ids = pad_left(sequences, places)
        length = token_ids.shape[1]
        is_answer = torch.arange(length) >= length - torch.tensor(answer_lengths)[:, None]
        return QuestionBatch(token_ids, mask, position_ids, is_answer, *join_pictures(pictures))

    def export(self, folder: Path) -> None:
        self.mllm.save_pretrained(folder / "mllm")
        self.tokenizer.save_pretrained(folder / "mllm")

    def position(self) -> dict[str, Any]:
        return {}

    def go_to(self, position: dict[str, Any]) -> None:
        """Nothing to restore: batches are drawn at random."""

    def validation(self) -> Iterator[tuple[str, QuestionBatch]]:
        """Questions that a run has most likely never seen, since there are as many as seeds."""
        data, generator = self.config.data, torch.Generator().manual_seed(self.config.seed)
        for kind, is_video, size in (("images", False, data.image_batch), ("videos", True, data.video_batch)):
            for _ in range(-(-self.config.validation // (2 * size))):
                yield kind, self.batch(generator, is_video)

    def grids(self) -> dict[str, torch.Tensor]:
        return {}

    def _positions(self, ids: list[int], grid: tuple[int, int, int]) -> torch.Tensor:
        config = self.mllm.config
        pace = config.vision_config.tokens_per_second
        return positions(ids, [grid], config.image_token_id, config.video_token_id, pace)


class _Planned:
    """Stand-in for a tokenizer that is not trained yet, since training takes longer than all checks."""

    def __init__(self, vocabulary: object) -> None:
        if type(vocabulary) is not int or not LEAST_VOCABULARY <= vocabulary <= MOST_VOCABULARY:
            raise InputError(
                f"In the training config, model.vocabulary is {shown(vocabulary)}; give a whole number from "
                f"{LEAST_VOCABULARY} to {MOST_VOCABULARY}."
            )
        self.vocabulary = vocabulary

    def __len__(self) -> int:
        return self.vocabulary

    def convert_tokens_to_ids(self, token: str) -> int:
        return SPECIAL.index(token)


def build_mllm(sizes: dict[str, Any], tokenizer: Any) -> nn.Module:
    """A Qwen2.5-VL with random weights, with the sizes under `text` and `vision`, for a tokenizer."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    def token(text: str) -> int:
        return tokenizer.convert_tokens_to_ids(text)

    special = {"bos_token_id": None, "eos_token_id": token(END), "pad_token_id": token(PADDING)}
    config = Qwen2_5_VLConfig(
        text_config={**sizes["text"], **special, "vocab_size": len(tokenizer), "tie_word_embeddings": True},
        vision_config={**sizes["vision"], "out_hidden_size": sizes["text"]["hidden_size"]},
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    return Qwen2_5_VLForConditionalGeneration(config)


def pick(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))
