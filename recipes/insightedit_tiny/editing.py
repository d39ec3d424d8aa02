"""InsightEdit's stages with what a tiny model needs in addition.

- `insight-alignment`, stage 1: instructions replace some captions, since no other data teaches their words.
- `insight-editing`, stages 2 and 3: errors are weighted by noise level, position and example (see `weighing`).
"""

from __future__ import annotations

from dataclasses import replace

import torch

from instructx_core.diffusion import trained_sigmas
from instructx_core.training.data.encoding import Encoded
from instructx_core.training.two_stream import AlignmentTask, TwoStream, TwoStreamBatch, TwoStreamTask

from .config import InsightTinyTrainConfig
from .weighing import drawn_levels, level_weight, place_weight


class WordsTask(AlignmentTask):
    """Stage 1 on captions and instructions."""

    config: InsightTinyTrainConfig

    def make_batch(
        self, examples: Encoded, instructionless: torch.Tensor, sourceless: torch.Tensor | None
    ) -> TwoStreamBatch:
        told = round(self.config.instructions * len(examples))
        words = [*examples.instructions[:told], *examples.captions[told:]]
        return super().make_batch(replace(examples, captions=words), instructionless, sourceless)


class WeighedTwoStream(TwoStream):
    """L_LLM + a weighted L_diff + L_IAA."""

    config: InsightTinyTrainConfig

    def levels(self, count: int, generator: torch.Generator) -> torch.Tensor:
        return trained_sigmas()[drawn_levels(count, generator)]

    def diffusion_error(
        self, square: torch.Tensor, sigma: torch.Tensor, source: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        weight = place_weight(source, target, self.config.edited_weight, self.config.balance)
        return (level_weight(sigma).view(-1, 1, 1, 1, 1) * weight * square).mean()


class InsightEditingTask(TwoStreamTask):
    """Stages 2 and 3."""

    config: InsightTinyTrainConfig
    module_class = WeighedTwoStream
