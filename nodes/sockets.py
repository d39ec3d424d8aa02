"""The pack's own socket types, and the values that they carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..instructx_core.errors import InputError

if TYPE_CHECKING:
    from fractions import Fraction

    import torch
    from comfy.model_patcher import ModelPatcher
    from comfy_api.latest import Input

    from ..instructx_core.config import ModelConfig
    from ..instructx_core.connectors import Connector as ConnectorModule
    from ..instructx_core.context import Context
    from ..instructx_core.fit import Fit as FitPlan
    from ..instructx_core.guidance.guidance import Guidance as GuidanceModule
    from ..instructx_core.long_video import LongOptions
    from ..instructx_core.mask_head import MaskHead

Mllm = io.Custom("INSTRUCTX_MLLM")
Connector = io.Custom("INSTRUCTX_CONNECTOR")
Guidance = io.Custom("INSTRUCTX_GUIDANCE")
Fit = io.Custom("INSTRUCTX_FIT")
Flow = io.Custom("INSTRUCTX_FLOW")


@dataclass(frozen=True)
class LoadedMllm:
    """An MLLM with queries and LoRA, under ComfyUI's memory management."""

    patcher: ModelPatcher  # of a module whose only child, `guidance`, is the model's Guidance
    name: str  # shown to the user
    files: str  # its files' `stamp`, which changes when they are replaced

    @property
    def guidance(self) -> GuidanceModule:
        return self.patcher.model.guidance


@dataclass(frozen=True)
class LoadedConnector:
    """A connector on the CPU, with its checkpoint's config."""

    module: ConnectorModule
    config: ModelConfig
    files: str  # as in LoadedMllm
    masks: MaskHead | None = None  # on the CPU; for models that locate each of several instructions


@dataclass(frozen=True)
class GuidanceValue:
    """Hidden states at the query positions, with the instruction and without, float32 on the CPU."""

    positive: Context  # tokens [1, N, D]
    negative: Context  # tokens [1, N, D]
    mllm: str  # its name, for messages
    reference_places: int = 0  # the first positions of the N, this many, belong to a reference image


@dataclass(frozen=True)
class FitValue:
    """How a source fits the model, and what a video has besides frames."""

    plan: FitPlan
    is_video: bool
    frame_rate: Fraction | None  # None: the source was an image or a plain batch of frames
    audio: Any  # ComfyUI's AUDIO, or None
    source: torch.Tensor  # float32 [T, H, W, 3]
    kept_share: float  # pixels changed by less than this share of the edit's strength stay the source's
    vae: Any  # encodes the source
    index: int = 0  # index of this picture among separate pictures
    count: int = 1  # number of separate pictures

    def own_mask(self, mask: torch.Tensor) -> torch.Tensor:
        """This picture's mask [1, H, W] from a batch [count, H, W] for separate pictures; any other mask unchanged."""
        return mask[self.index, None] if 1 < self.count == len(mask) else mask

    def cut(self, frames: torch.Tensor) -> torch.Tensor:
        """InstructX Fit's frames without the border and the repeated frames that it added.

        Raises:
            InputError: frames of a different length or size, from which only a corner would be cut.
        """
        wanted = (self.plan.padded_frames, *self.plan.canvas)
        if tuple(frames.shape[:3]) != wanted:
            raise InputError(
                f"The source is {len(frames)} frames of {frames.shape[2]} x {frames.shape[1]}, but the FIT is for "
                f"{wanted[0]} of {wanted[2]} x {wanted[1]}; connect the IMAGE of that InstructX Fit, or disconnect fit."
            )
        return self.plan.cut(frames)


@dataclass(frozen=True)
class FlowValue:
    """A Window Open's settings for the node that ends its loop."""

    node_id: str  # of the Window Open
    source: Input.Video
    options: LongOptions
    frame_multiple: int  # a window has 1 + n * this many frames; shorter ones are padded
    hold_all: bool  # hold all frames that windows share, not only the first
    seed: int
    folder: str  # inside ComfyUI's output folder
