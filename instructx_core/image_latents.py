"""Pictures <-> normalised latents: Stable Diffusion's VAE, whose latents are normalised by a single factor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from einops import rearrange

from .latents import Codec
from .results import check_numbers

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


class ImageCodec(Codec):
    """`AutoencoderKL`; each frame of a clip is coded separately."""

    temporal_stride = 1
    frame_multiple = 1

    def __init__(self, vae: AutoencoderKL) -> None:
        channels = vae.config.latent_channels
        super().__init__(vae, [0.0] * channels, [1 / vae.config.scaling_factor] * channels)

    @property
    def channels(self) -> int:
        return self.vae.config.latent_channels

    @property
    def stride(self) -> int:
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @torch.no_grad()
    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        pixels = rearrange(frames, "b t h w c -> (b t) c h w").to(self.vae.dtype) * 2 - 1
        raw = self.vae.encode(pixels).latent_dist.mode()
        return self.normalise(rearrange(raw, "(b t) c h w -> b c t h w", b=len(frames)))

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        raw = rearrange(self.denormalise(latents), "b c t h w -> (b t) c h w")
        pixels = self.vae.decode(raw.to(self.vae.dtype), return_dict=False)[0]
        check_numbers(pixels, "while decoding")
        pixels = rearrange(pixels.float() / 2 + 0.5, "(b t) c h w -> b t h w c", b=len(latents))
        return pixels.clamp(0, 1)
