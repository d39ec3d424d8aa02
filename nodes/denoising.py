"""A checkpoint's description of its DiT, attached to a MODEL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..instructx_core.config import ModelConfig, SourceInjection

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..instructx_core.families.part_loaders import AddedEmbedding

ATTACHMENT = "instructx"  # the name of the MODEL's attachment that holds a `Denoising`


@dataclass(frozen=True)
class Denoising:
    """A checkpoint's description of its DiT; the loaders attach it to a MODEL."""

    config: ModelConfig
    source: AddedEmbedding | None = None
    reference: AddedEmbedding | None = None
    local_strength: tuple[float, ...] = ()  # per block; see the library's `conditions.local_edits`


def denoising(model: ModelPatcher) -> Denoising:
    """The `Denoising` that a loader attached; for a stock Wan MODEL, the paper's defaults."""
    return model.get_attachment(ATTACHMENT) or Denoising(ModelConfig())


def is_streamed(model: ModelPatcher) -> bool:
    """Whether a MODEL takes its source and references as separate tokens, which ComfyUI's Wan supports natively."""
    return denoising(model).config.denoiser.source is SourceInjection.STREAM
