"""A foreign pipeline: diffusers' VACE in its own classes, with tiny random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from instructx_core.long_video import EditFunction, Turn
from support import tiny

if TYPE_CHECKING:
    from diffusers import WanVACEPipeline


def vace() -> WanVACEPipeline:
    """diffusers' VACE, a foreign pipeline, in its own classes with random weights."""
    from diffusers import UniPCMultistepScheduler, WanVACEPipeline, WanVACETransformer3DModel

    torch.manual_seed(0)
    transformer = WanVACETransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=tiny.CHANNELS,
        out_channels=tiny.CHANNELS,
        text_dim=tiny.TEXT_DIM,
        freq_dim=16,
        ffn_dim=40,
        num_layers=2,
        vace_layers=[0],
        vace_in_channels=2 * tiny.CHANNELS + 64,
    )
    pipeline = WanVACEPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=tiny.vae(**tiny.WAN_STRIDES),
        scheduler=UniPCMultistepScheduler(flow_shift=3.0, use_flow_sigmas=True, prediction_type="flow_prediction"),
        transformer=transformer.eval(),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def vace_edit(pipeline: WanVACEPipeline, steps: int) -> EditFunction:
    """The example of docs/long-video.md."""
    words = torch.randn(1, 6, tiny.TEXT_DIM, generator=torch.Generator().manual_seed(0))  # a prompt needs ftfy

    def edit(frames: torch.Tensor, turn: Turn) -> torch.Tensor:
        mask = torch.ones_like(frames)
        mask[: turn.held] = 0  # black: VACE keeps what it is shown there
        made: Any = pipeline(
            prompt_embeds=words,
            guidance_scale=1.0,
            video=frames.permute(0, 3, 1, 2)[None],
            mask=mask.permute(0, 3, 1, 2)[None],
            height=frames.shape[1],
            width=frames.shape[2],
            num_frames=len(frames),
            num_inference_steps=steps,
            generator=torch.Generator().manual_seed(turn.seed),
        )
        return torch.from_numpy(made.frames[0])

    return edit
