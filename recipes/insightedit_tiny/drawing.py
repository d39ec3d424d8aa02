"""Stage 0d: train Stable Diffusion's UNet to draw the world from captions, encoded by the CLIP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from instructx_core.diffusion import scales, trained_sigmas
from instructx_core.families.networks import load_codec
from instructx_core.training.data.cache import open_pool
from instructx_core.training.data.sources import PoolSource
from instructx_core.training.two_stream import load_clip
from instructx_core.weights.detect import find_form
from instructx_core.weights.parts import Part

from ..tiny.sizes import check_numbers, check_sized
from .config import InsightTinyTrainConfig
from .weighing import drawn_levels, level_weight


@dataclass(frozen=True)
class DrawingBatch:
    """Pictures with their captions."""

    target: torch.Tensor  # [B, C, h, w] normalised latents
    token_ids: torch.Tensor  # int64 [B, tokens]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.target)


class Drawing(nn.Module):
    """A batch of captioned pictures -> the error in eps of a UNet that predicts v."""

    def __init__(self, unet: nn.Module, clip: nn.Module, config: InsightTinyTrainConfig) -> None:
        super().__init__()
        self.unet, self.config = unet, config
        self.clip = [clip]  # in a list, so that it is no sub-module: neither trained nor saved

    def forward(self, batch: DrawingBatch, generator: torch.Generator) -> dict[str, torch.Tensor]:
        device = self.unet.device
        (clip,) = self.clip
        with torch.no_grad():
            context = clip.to(device).text_model(input_ids=batch.token_ids.to(device)).last_hidden_state
        target = batch.target.to(device)
        level = drawn_levels(len(target), generator)
        sigma = trained_sigmas()[level].to(device, torch.float32)
        kept, share = (scale.view(-1, 1, 1, 1) for scale in scales(sigma))
        noise = torch.randn(target.shape, generator=generator).to(device)
        predicted = self.unet(kept * target + share * noise, level.to(device), context).sample  # v
        square = (kept * (predicted.float() - (kept * noise - share * target))).square()  # eps's
        weight = level_weight(sigma).view(-1, 1, 1, 1)
        return {"loss": (weight * square).mean(), "diffusion": square.detach().mean()}


class DrawingTask:
    """Trains a `UNet2DConditionModel` from scratch."""

    def __init__(self, config: InsightTinyTrainConfig) -> None:
        from diffusers import UNet2DConditionModel

        self.config = config
        check_numbers(config.model, "model")
        check_sized(lambda: UNet2DConditionModel(**config.model), "model")
        clip, self.words = load_clip(Path(config.start["clip"]))
        codec = load_codec(find_form(config.start["vae"], Part.VAE), torch.float32)
        self.source = PoolSource(open_pool(Path(config.data.pool), config.data, codec, 1, codec.stride), config)
        torch.manual_seed(config.seed)
        self.places = clip.config.text_config.max_position_embeddings
        self.module = Drawing(UNet2DConditionModel(**config.model), clip, config)

    def batch(self, generator: torch.Generator, is_video: bool) -> DrawingBatch:
        examples = self.source.draw(generator, is_video)
        dropped = torch.rand(len(examples), generator=generator) < self.config.drop_instruction
        captions = ["" if drop else text for text, drop in zip(examples.captions, dropped, strict=True)]
        ids = self.words(
            captions, padding="max_length", truncation=True, return_tensors="pt", max_length=self.places
        )["input_ids"]  # fmt: skip
        return DrawingBatch(examples.target[:, :, 0].float(), ids, tuple(examples.names))

    def export(self, folder: Path) -> None:
        self.module.unet.save_pretrained(folder / "unet")

    def position(self) -> dict[str, Any]:
        return self.source.position()

    def go_to(self, position: dict[str, Any]) -> None:
        self.source.go_to(position)

    def validation(self) -> Iterator[tuple[str, DrawingBatch]]:
        return iter(())

    def grids(self) -> dict[str, torch.Tensor]:
        return {}
