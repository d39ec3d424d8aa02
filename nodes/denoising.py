"""What a checkpoint says about its DiT, carried by a MODEL as an attachment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..instructx_core.config import ModelConfig, SourceInjection

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..instructx_core.families.part_loaders import AddedEmbedding

ATTACHMENT = "instructx"  # the name under which a MODEL carries a checkpoint's `Denoising`


@dataclass(frozen=True)
class Denoising:
    """What a checkpoint says about its DiT; attached to a MODEL by the loaders."""

    config: ModelConfig
    source: AddedEmbedding | None = None
    reference: AddedEmbedding | None = None
    local_strength: tuple[float, ...] = ()  # of each block; see the library's `conditions.local_edits`


def denoising(model: ModelPatcher) -> Denoising:
    """What a loader attached; of a stock Wan MODEL, the paper's form."""
    return model.get_attachment(ATTACHMENT) or Denoising(ModelConfig())


def is_streamed(model: ModelPatcher) -> bool:
    """Whether a MODEL takes its source and references as tokens of their own, which ComfyUI's Wan does by itself."""
    return denoising(model).config.denoiser.source is SourceInjection.STREAM
