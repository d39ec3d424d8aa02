"""Stage 0b: train a CLIP on the world's captioned pictures. Stage 1 aligns with its text, L_IAA with its image side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from instructx_core.guidance.llava import ANSWERING, ASKING, BEFORE, DEVIATION, MEAN
from instructx_core.training.data.world import check_world, world_examples

from ..tiny.questions import corpus
from ..tiny.sizes import check_numbers, check_sized
from ..tiny.tokenizer import PADDING, train_tokenizer
from .config import InsightTinyTrainConfig

PROMPT_REPEATS = 200  # of LLaVA's prompt in the corpus, so that its words become few tokens


@dataclass(frozen=True)
class CaptionBatch:
    """Pictures with their captions."""

    pixels: torch.Tensor  # uint8 [B, H, W, 3]
    token_ids: torch.Tensor  # int64 [B, tokens]

    def __len__(self) -> int:
        return len(self.pixels)


class Contrast(nn.Module):
    """A batch of pictures and captions -> the loss of matching each to the other among all."""

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, batch: CaptionBatch, generator: torch.Generator) -> dict[str, torch.Tensor]:
        device = self.clip.device
        pixels = normalised(batch.pixels.to(device))
        found = self.clip(input_ids=batch.token_ids.to(device), pixel_values=pixels, return_loss=True)
        right = found.logits_per_image.argmax(1) == torch.arange(len(batch), device=device)
        return {"loss": found.loss, "right": right.float().mean()}


class ClipTask:
    """Trains a `CLIPModel` from scratch, with a tokenizer of the world's words."""

    def __init__(self, config: InsightTinyTrainConfig) -> None:
        self.config = config
        sizes = config.model
        check_numbers(sizes, "model")
        check_sized(lambda: build_clip(sizes, sizes["vocabulary"]), "model")
        check_world(config.data, 1, 1)
        words = train_tokenizer(texts(config), sizes["vocabulary"])
        self.tokenizer = closing(words)
        torch.manual_seed(config.seed)
        self.module = Contrast(build_clip(sizes, len(words)))
        examples = list(world_examples(config.data))
        self.pictures = (torch.stack([one.target[0] for one in examples]) * 255).round().to(torch.uint8)
        self.token_ids = self.tokenizer(
            [one.caption for one in examples], padding="max_length", truncation=True, return_tensors="pt",
            max_length=sizes["text"]["max_position_embeddings"],
        )["input_ids"]  # fmt: skip

    def batch(self, generator: torch.Generator, is_video: bool) -> CaptionBatch:
        drawn = torch.randint(len(self.pictures), (self.config.data.image_batch,), generator=generator)
        return CaptionBatch(self.pictures[drawn], self.token_ids[drawn])

    def export(self, folder: Path) -> None:
        self.module.clip.save_pretrained(folder / "clip")
        self.tokenizer.save_pretrained(folder / "clip")

    def position(self) -> dict[str, Any]:
        return {}

    def go_to(self, position: dict[str, Any]) -> None:
        """Nothing to restore: batches are drawn at random."""

    def validation(self) -> Iterator[tuple[str, CaptionBatch]]:
        return iter(())

    def grids(self) -> dict[str, torch.Tensor]:
        return {}


def texts(config: InsightTinyTrainConfig) -> Iterator[str]:
    """Training text for the tokenizer: the world's words and those of LLaVA's prompt."""
    yield from corpus(config.data.variety)
    for _ in range(PROMPT_REPEATS):
        yield BEFORE + ASKING + ANSWERING


def closing(tokenizer: Any) -> Any:
    """Make a tokenizer end and pad each text with one token, as CLIP's does; the text model pools at the first."""
    from tokenizers.processors import TemplateProcessing

    end = (PADDING, tokenizer.convert_tokens_to_ids(PADDING))
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"$A {PADDING}", special_tokens=[end])
    tokenizer.eos_token = PADDING
    return tokenizer


def build_clip(sizes: dict[str, Any], words: int) -> nn.Module:
    """A CLIP with random weights, with the sizes under `text`, `vision` and `projection_dim`."""
    from transformers import CLIPConfig, CLIPModel

    special = {"bos_token_id": None, "eos_token_id": 0, "pad_token_id": 0}  # PADDING is the tokenizer's first
    text = {**sizes["text"], **special, "vocab_size": words, "projection_dim": sizes["projection_dim"]}
    vision = {**sizes["vision"], "projection_dim": sizes["projection_dim"]}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=sizes["projection_dim"]))


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 [B, H, W, 3] -> [B, 3, H, W], normalised for CLIP."""
    mean, deviation = torch.tensor(MEAN).to(pixels.device), torch.tensor(DEVIATION).to(pixels.device)
    return ((pixels.float() / 255 - mean) / deviation).permute(0, 3, 1, 2)
