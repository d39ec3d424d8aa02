"""Absolute positions in the picture, as additional channels of a source's latents.

Rotary positions tell a DiT how far apart two tokens are, not where they are. Wan learns that from much data; a small
model that should put something "at the top right" needs it as an input.
"""

from __future__ import annotations

import math

import torch

CHANNELS_OF_WAVE = 4  # sine and cosine, down and across


def with_places(source: torch.Tensor, waves: int) -> torch.Tensor:
    """Latents [B, C, T, h, w] -> [B, C + 4 waves, T, h, w].

    The channels are sin and cos of pi 2^k u for k < `waves`, with u in (0, 1) from the top to the bottom edge, then
    from the left to the right edge: fractions of the picture, so that a word means the same at every size.
    """
    if not waves:
        return source
    batch, _, frames, height, width = source.shape
    down, across = (_waves(size, waves, source.device) for size in (height, width))  # [2 waves, size]
    planes = torch.cat([down[:, :, None].expand(-1, -1, width), across[:, None].expand(-1, height, -1)])
    return torch.cat([source, planes.to(source)[None, :, None].expand(batch, -1, frames, -1, -1)], dim=1)


def _waves(size: int, waves: int, device: torch.device) -> torch.Tensor:
    """The channels along one side, [2 waves, size]."""
    u = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size
    angle = math.pi * 2.0 ** torch.arange(waves, device=device, dtype=torch.float32)[:, None] * u
    return torch.cat([angle.sin(), angle.cos()])
