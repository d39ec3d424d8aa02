"""The pack's own socket types, and the values that travel along them."""

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
    """An MLLM with queries and LoRA, in ComfyUI's memory management."""

    patcher: ModelPatcher  # of a module whose only child, `guidance`, is the model's Guidance
    name: str
    files: str  # what tells its files on the disk from others that took their place

    @property
    def guidance(self) -> GuidanceModule:
        return self.patcher.model.guidance


@dataclass(frozen=True)
class LoadedConnector:
    """A connector on the CPU and the config of the checkpoint that it is from."""

    module: ConnectorModule
    config: ModelConfig
    files: str  # as an MLLM's
    masks: MaskHead | None = None  # of a model that finds the place of each of several instructions, on the CPU


@dataclass(frozen=True)
class GuidanceValue:
    """Hidden states at the query positions, with the instruction and without, float32 on the CPU."""

    positive: Context  # tokens [1, N, D]
    negative: Context  # tokens [1, N, D]
    mllm: str  # its name, for messages
    reference_places: int = 0  # this many places at the beginning of the N are a reference image's own


@dataclass(frozen=True)
class FitValue:
    """How a source fits the model's frames, and what a video has besides frames."""

    plan: FitPlan
    is_video: bool
    frame_rate: Fraction | None  # None: the source was an image or a bare batch of frames
    audio: Any  # ComfyUI's AUDIO, or None
    source: torch.Tensor  # float32 [T, H, W, 3]
    kept_share: float  # pixels changed by less than this share of the edit's strength are the source's own
    vae: Any  # what encoded the source
    index: int = 0  # of separate pictures, the number of this one
    count: int = 1  # and how many they are

    def own_mask(self, mask: torch.Tensor) -> torch.Tensor:
        """Of a MASK batch [count, H, W] over separate pictures this one's, [1, H, W]; any other as it is."""
        return mask[self.index, None] if 1 < self.count == len(mask) else mask

    def cut(self, frames: torch.Tensor) -> torch.Tensor:
        """What InstructX Fit gave, without what it added to the source.

        Raises:
            InputError: frames of another length or size, of which a corner would be taken.
        """
        wanted = (self.plan.padded_frames, *self.plan.canvas)
        if tuple(frames.shape[:3]) != wanted:
            raise InputError(
                f"The source is {len(frames)} frames of {frames.shape[2]} x {frames.shape[1]}, and the FIT is of "
                f"{wanted[0]} of {wanted[2]} x {wanted[1]}; connect the IMAGE of that InstructX Fit, or leave fit out."
            )
        return self.plan.cut(frames)


@dataclass(frozen=True)
class FlowValue:
    """What a Window Open tells its Window Close."""

    node_id: str  # of the Window Open
    source: Input.Video
    options: LongOptions
    frame_multiple: int  # a window is 1 + n * this many frames; what is shorter is filled up
    hold_all: bool  # all frames that windows share are held, not the first alone
    seed: int
    folder: str  # below ComfyUI's output folder
