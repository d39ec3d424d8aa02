"""Stage 0a: train a Stable Diffusion VAE on the world's pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import nn

from instructx_core.diffusion import LATENT_SCALE
from instructx_core.training.data.world import check_world

from ..tiny.autoencoder import draw_pixels, to_unit
from ..tiny.sizes import check_numbers, check_sized
from .config import InsightTinyTrainConfig

LATENT_NOISE = 0.05  # in units of the code's deviation: teaches the decoder to tolerate a denoiser's small errors
SHOWN = 6


class Reconstruction(nn.Module):
    """Pixels [B, 3, H, W] in [-1, 1] -> the loss of the VAE's reconstruction."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, pixels: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        pixels = pixels.to(self.vae.device)
        code = self.vae.encode(pixels).latent_dist.mean  # [B, C, h, w]
        size = code.detach().float().std((0, 2, 3), keepdim=True)
        noise = torch.randn(code.shape, generator=generator).to(code)
        difference = self.vae.decode(code + LATENT_NOISE * size * noise).sample - pixels
        square = difference.float().square().mean()
        # the absolute error keeps edges sharp, the penalty keeps the code from drifting away
        loss = square + 0.1 * difference.float().abs().mean() + 1e-4 * code.float().square().mean()
        return {"loss": loss, "decibels": -10 * torch.log10(square.detach() / 4)}


class AutoencoderTask:
    """Trains an `AutoencoderKL` from scratch."""

    def __init__(self, config: InsightTinyTrainConfig) -> None:
        from diffusers import AutoencoderKL

        self.config = config
        torch.manual_seed(config.seed)
        check_numbers(config.model, "model")
        check_sized(lambda: AutoencoderKL(**config.model), "model")
        vae = AutoencoderKL(**config.model)
        check_world(config.data, 2 ** (len(vae.config.block_out_channels) - 1), 1)
        (self.pictures,), _ = draw_pixels(config)
        self.module = Reconstruction(vae)

    def batch(self, generator: torch.Generator, is_video: bool) -> torch.Tensor:
        drawn = torch.randint(len(self.pictures), (self.config.data.image_batch,), generator=generator)
        return to_unit(self.pictures[drawn])[:, :, 0]

    @torch.no_grad()
    def export(self, folder: Path) -> None:
        vae = self.module.vae.cpu()
        fold_statistics(vae, to_unit(self.pictures[:1000])[:, :, 0])
        vae.save_pretrained(folder / "vae")

    def position(self) -> dict[str, Any]:
        return {}

    def go_to(self, position: dict[str, Any]) -> None:
        """Nothing to restore: batches are drawn at random."""

    def validation(self) -> Iterator[tuple[str, torch.Tensor]]:
        return iter(())

    @torch.no_grad()
    def grids(self) -> dict[str, torch.Tensor]:
        pixels = to_unit(self.pictures[:SHOWN])[:, :, 0].to(self.module.vae.device)
        decoded = self.module.vae.decode(self.module.vae.encode(pixels).latent_dist.mean).sample
        return {"images": rearrange([pixels, decoded], "two b c h w -> (two h) (b w) c").clamp(-1, 1).cpu() / 2 + 0.5}


@torch.no_grad()
def fold_statistics(vae: nn.Module, pixels: torch.Tensor) -> None:
    """Shift and scale the code of `pixels` [N, 3, H, W] to mean 0 and the deviation that SD's `LATENT_SCALE` implies.

    The 1 x 1 convolutions between encoder, code and decoder absorb the change; reconstructions do not change.
    """
    code = torch.cat([vae.encode(part).latent_dist.mean for part in pixels.split(64)])
    mean, gain = code.mean((0, 2, 3)), 1 / LATENT_SCALE / code.std((0, 2, 3))
    channels, entry, exit_ = vae.config.latent_channels, vae.post_quant_conv, vae.quant_conv
    # decoder side first: it takes code / gain + mean
    entry.bias += entry.weight[:, :, 0, 0] @ mean
    entry.weight /= gain.view(1, -1, 1, 1)
    exit_.weight[:channels] *= gain.view(-1, 1, 1, 1)
    exit_.bias[:channels] = (exit_.bias[:channels] - mean) * gain
    exit_.bias[channels:] += 2 * gain.log()  # the posterior's log variance grows with the code
