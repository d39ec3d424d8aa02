"""Stage 0c: train a LLaVA on the world's questions, with its vision tower initialised from the CLIP's.

Unlike in LLaVA, the tower is trained too: a CLIP trained on 10,000 captions sees less than is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from instructx_core.guidance.encoder import pad_ids
from instructx_core.guidance.llava import BEFORE, causal
from instructx_core.training.two_stream import load_clip
from instructx_core.world import HELD_OUT_SEED

from ..tiny.questions import sample_question
from ..tiny.sizes import check_numbers, check_sized
from ..tiny.tokenizer import END
from .clip import normalised
from .config import InsightTinyTrainConfig

ANSWER = " ASSISTANT:"


@dataclass(frozen=True)
class QuestionBatch:
    """Questions about pictures with their answers, padded on the left."""

    token_ids: torch.Tensor  # int64 [B, L]
    attention_mask: torch.Tensor  # bool [B, L]
    is_answer: torch.Tensor  # bool [B, L]: tokens to predict
    pixels: torch.Tensor  # uint8 [B, H, W, 3]

    def __len__(self) -> int:
        return len(self.token_ids)


class Answering(nn.Module):
    """A batch of questions -> cross-entropy of the answers."""

    def __init__(self, mllm: nn.Module) -> None:
        super().__init__()
        self.mllm = mllm

    def forward(self, batch: QuestionBatch, generator: torch.Generator) -> dict[str, torch.Tensor]:
        device = self.mllm.device
        ids, mask = batch.token_ids.to(device), batch.attention_mask.to(device)
        config = self.mllm.config
        seen = self.mllm.model.vision_tower(normalised(batch.pixels.to(device)), output_hidden_states=True)
        features = self.mllm.model.multi_modal_projector(seen.hidden_states[config.vision_feature_layer][:, 1:])
        is_picture = ids == config.image_token_index
        embeds = self.mllm.get_input_embeddings()(ids.masked_fill(is_picture, 0))
        embeds = embeds.masked_scatter(is_picture[..., None], features.to(embeds.dtype))
        hidden = self.mllm.model.language_model(
            inputs_embeds=embeds,
            attention_mask=causal(mask),
            position_ids=(mask.cumsum(1) - 1).clamp(min=0),
            use_cache=False,
        ).last_hidden_state
        wanted = batch.is_answer.to(device)[:, 1:]
        logits, answers = self.mllm.lm_head(hidden[:, :-1][wanted]), ids[:, 1:][wanted]
        right = (logits.argmax(-1) == answers).float().mean()
        return {"loss": F.cross_entropy(logits.float(), answers), "tokens_right": right}


class LlavaTask:
    """Trains a `LlavaForConditionalGeneration` with the CLIP's vision tower and tokenizer."""

    def __init__(self, config: InsightTinyTrainConfig) -> None:
        self.config = config
        check_numbers(config.model, "model")
        self.clip, self.tokenizer = load_clip(Path(config.start["clip"]))
        self.tokenizer.eos_token = END
        check_sized(lambda: build_llava(config.model, self.clip.config.vision_config, len(self.tokenizer)), "model")
        torch.manual_seed(config.seed)
        mllm = build_llava(config.model, self.clip.config.vision_config, len(self.tokenizer))
        tower = mllm.model.vision_tower
        tower = getattr(tower, "vision_model", tower)
        tower.load_state_dict({name: self.clip.vision_model.state_dict()[name] for name in tower.state_dict()})
        self.module = Answering(mllm)

    def batch(self, generator: torch.Generator, is_video: bool) -> QuestionBatch:
        data, config = self.config.data, self.module.mllm.config
        side = config.vision_config.image_size
        places = (side // config.vision_config.patch_size) ** 2
        before, picture = self._tokens(BEFORE), [config.image_token_index] * places
        sequences, pictures, answers = [], [], []
        for seed in torch.randint(HELD_OUT_SEED, (data.image_batch,), generator=generator).tolist():
            asked = sample_question(seed, height=side, width=side, variety=data.variety)
            answer = [*self._tokens(" " + asked.answer), self.tokenizer.convert_tokens_to_ids(END)]
            sequences.append([*before, *picture, *self._tokens(f" {asked.question}{ANSWER}"), *answer])
            pictures.append((torch.from_numpy(asked.frames[0]) * 255).round().to(torch.uint8))
            answers.append(len(answer))
        token_ids, mask = pad_ids(sequences, 0)
        length = token_ids.shape[1]
        is_answer = torch.arange(length) >= length - torch.tensor(answers)[:, None]
        return QuestionBatch(token_ids, mask, is_answer, torch.stack(pictures))

    def export(self, folder: Path) -> None:
        self.module.mllm.save_pretrained(folder / "mllm")
        self.tokenizer.backend_tokenizer.post_processor = None  # prompts must not end with the end token
        self.tokenizer.save_pretrained(folder / "mllm")

    def position(self) -> dict[str, Any]:
        return {}

    def go_to(self, position: dict[str, Any]) -> None:
        """Nothing to restore: batches are drawn at random."""

    def validation(self) -> Iterator[tuple[str, QuestionBatch]]:
        return iter(())

    def grids(self) -> dict[str, torch.Tensor]:
        return {}

    def _tokens(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]


def build_llava(sizes: dict[str, Any], vision: Any, words: int) -> nn.Module:
    """A LLaVA with random weights, with the language model's sizes under `text` and a CLIP's `vision` config."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    special = {"bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0}  # END and PADDING of the tokenizer
    text = {"model_type": "llama", **sizes["text"], **special, "vocab_size": words, "tie_word_embeddings": False}
    # LLaVA reads the CLIP's last layer but one, so the last is left out
    seen = {**vision.to_dict(), "model_type": "clip_vision_model", "num_hidden_layers": vision.num_hidden_layers - 1}
    config = LlavaConfig(
        text_config=text,
        vision_config=seen,
        image_token_index=words,
        vision_feature_layer=-1,
        tie_word_embeddings=False,
    )
    return LlavaForConditionalGeneration(config)
