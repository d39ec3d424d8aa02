"""Operations on any VAE: how its latents map to pixels, whether it matches a MODEL, and encoding a source."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..instructx_core.errors import InputError
from .natives import is_unet, patch

if TYPE_CHECKING:
    import torch
    from comfy.model_patcher import ModelPatcher

WAN_CHUNK = 4  # frames that a Wan VAE processes at a time, after the first


@dataclass(frozen=True)
class Strides:
    """How a VAE's latents map to pixels."""

    space: int  # pixels per latent position
    time: int  # frames per latent frame, except the first
    frame_multiple: int  # clips have 1 + n * this many frames
    channels: int


def strides(vae: Any) -> Strides:
    """The strides of a CodecVAE or of ComfyUI's own VAE; a VAE for still images codes each frame separately."""
    time = vae.temporal_compression_decode()
    if is_still(vae):
        return Strides(vae.spacial_compression_encode(), 1, 1, vae.latent_channels)
    return Strides(vae.spacial_compression_encode(), time, math.lcm(WAN_CHUNK, time), vae.latent_channels)


def is_still(vae: Any) -> bool:
    """Whether a VAE is for still images."""
    return getattr(vae, "latent_dim", 3) != 3 or vae.temporal_compression_decode() is None


def check_vae(model: ModelPatcher, vae: Any) -> None:
    """Raise InputError unless the VAE's latents match the MODEL in kind and channels."""
    if is_still(vae) != is_unet(model):
        kind, wanted = ("videos", "Stable Diffusion's") if is_unet(model) else ("still images", "a Wan")
        raise InputError(f"This VAE is for {kind}; connect {wanted} VAE, or the one from InstructX Load Model.")
    channels, taken = strides(vae).channels, model.model.latent_format.latent_channels
    if channels != taken:
        raise InputError(
            f"The VAE makes latents of {channels} channels, but the MODEL takes {taken}; connect the VAE that belongs"
            " to the MODEL (Wan 2.1: 16 channels, Wan 2.2 5B: 48)."
        )


def encode(vae: Any, frames: torch.Tensor, model: ModelPatcher) -> torch.Tensor:
    """Frames [T, H, W, 3] -> raw latents [1, C, t, h, w]; for a UNet, one picture -> [1, C, h, w].

    Raises:
        InputError: a size or length that the VAE or the DiT would crop.
    """
    own = strides(vae)
    stride = own.space * patch(model)
    count, height, width = frames.shape[:3]
    if height % stride or width % stride or (count - 1) % own.frame_multiple:
        raise InputError(
            f"The source is {count} frames of {width} x {height}, but the model takes sides in multiples of {stride}"
            f" and 1 + n * {own.frame_multiple} frames; put InstructX Fit before this node."
        )
    if is_unet(model) and count != 1:
        raise InputError(
            f"The source has {count} frames, but this MODEL edits single pictures; give one frame at a time."
        )
    return vae.encode(frames[..., :3])
