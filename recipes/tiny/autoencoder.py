"""Stage 0a: train a Wan VAE on the world's pictures and clips, in place of the paper's pre-trained VAE."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import nn

from instructx_core.latents import skip_empty_taps
from instructx_core.training.data.world import check_world
from instructx_core.weights.detect import find_form
from instructx_core.weights.parts import Part
from instructx_core.weights.vae import load_vae
from instructx_core.world import CLIP_GROUPS, EVERY_GROUP, GROUPS, HELD_OUT_SEED, PLAIN, sample_triplet

from .config import TinyTrainConfig
from .initialisation import fold_statistics, start_vae_linear
from .sizes import check_numbers, check_sized, refusing

LATENT_NOISE = 0.03  # in units of the code's deviation: teaches the decoder to tolerate a denoiser's small errors
SHOWN = 6


class Reconstruction(nn.Module):
    """Pixels [B, 3, T, H, W] in [-1, 1] -> the loss of the VAE's reconstruction."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, pixels: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        pixels = pixels.to(next(self.vae.parameters()).device)
        code = self.vae.encode(pixels).latent_dist.mean  # [B, C, t, h, w]
        noise = torch.randn(code.shape, generator=generator).to(code)
        difference = self.vae.decode(code + LATENT_NOISE * noise, return_dict=False)[0] - pixels
        square = difference.square().mean()
        # the absolute error keeps edges sharp, the penalty keeps the code from drifting away from deviation 1
        loss = square + 0.02 * difference.abs().mean() + 1e-5 * code.square().mean()
        return {"loss": loss, "decibels": -10 * torch.log10(square.detach() / 4)}


class AutoencoderTask:
    """Trains an `AutoencoderKLWan` from a linear initialisation."""

    def __init__(self, config: TinyTrainConfig) -> None:
        from diffusers import AutoencoderKLWan

        self.config = config
        torch.manual_seed(config.seed)
        if "vae" in config.start:
            vae = load_vae(find_form(config.start["vae"], Part.VAE), torch.float32)
        else:
            check_numbers(config.model, "model")
            check_sized(lambda: AutoencoderKLWan(**config.model), "model")
            vae = AutoencoderKLWan(**config.model)
            check_start(vae, config.data.sizes[0])
        check_world(config.data, vae.config.scale_factor_spatial, 1)
        self.images, self.clips = draw_pixels(config)
        if "vae" not in config.start:
            start_vae_linear(vae, to_unit(self.images[0][:1500]))
        self.module = Reconstruction(skip_empty_taps(vae))

    def batch(self, generator: torch.Generator, is_video: bool) -> torch.Tensor:
        data = self.config.data
        is_video = is_video if self.images and self.clips else bool(self.clips)
        buckets, size = (self.clips, data.video_batch) if is_video else (self.images, data.image_batch)
        weights = torch.tensor([float(len(bucket)) for bucket in buckets])
        bucket = buckets[int(torch.multinomial(weights, 1, generator=generator))]
        return to_unit(bucket[torch.randint(len(bucket), (size,), generator=generator)])

    def export(self, folder: Path) -> None:
        vae = self.module.vae.cpu()  # where the pictures are
        fold_statistics(vae, to_unit(self.images[0][:1000]))
        vae.save_pretrained(folder / "vae")

    def position(self) -> dict[str, Any]:
        return {}

    def go_to(self, position: dict[str, Any]) -> None:
        """Nothing to restore: batches are drawn at random."""

    def validation(self) -> Iterator[tuple[str, torch.Tensor]]:
        return iter(())

    @torch.no_grad()
    def grids(self) -> dict[str, torch.Tensor]:
        pixels = to_unit(self.images[0][:SHOWN])
        device = next(self.module.parameters()).device
        decoded = self.module.vae.decode(self.module.vae.encode(pixels.to(device)).latent_dist.mean).sample.cpu()
        return {"images": rearrange([pixels, decoded], "two b c 1 h w -> (two h) (b w) c").clamp(-1, 1) / 2 + 0.5}


@torch.no_grad()
def check_start(vae: nn.Module, size: tuple[int, int]) -> None:
    """Raise InputError unless a VAE of these sizes can be initialised linearly and has the strides of its config."""
    with refusing("model"), torch.random.fork_rng(devices=[]):
        trial, pixels = copy.deepcopy(vae), torch.rand(4, 3, 1, *size) * 2 - 1
        start_vae_linear(trial, pixels)
        code = trial.encode(pixels).latent_dist.mean
        config = vae.config
        wanted = (config.z_dim, 1, *(side // config.scale_factor_spatial for side in size))
        if tuple(code.shape[1:]) != wanted or trial.decode(code).sample.shape != pixels.shape:
            raise ValueError(f"a picture of {list(size)} becomes {list(code.shape[1:])} instead of {list(wanted)}")
        if not len(config.latents_mean) == len(config.latents_std) == config.z_dim:
            raise ValueError(f"latents_mean and latents_std need {config.z_dim} values each, as z_dim says")


def draw_pixels(config: TinyTrainConfig) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Draw pictures and clips from the world, uint8 [N, T, H, W, 3], one bucket per shape."""
    from tqdm import tqdm

    data = config.data
    images: list[torch.Tensor] = []
    clips: list[torch.Tensor] = []
    seeds = iter(range(config.seed * 10**7 % 2**39, HELD_OUT_SEED))
    for index, (height, width) in enumerate(data.sizes):
        share = shape_share(index, len(data.sizes))
        for target, count, lengths in ((images, data.images, (1,)), (clips, data.videos, data.lengths)):
            for frames in lengths:
                groups = GROUPS if data.variety == PLAIN else EVERY_GROUP
                groups = [group for group in groups if frames > 1 or group not in CLIP_GROUPS]
                drawn: list[torch.Tensor] = []
                wanted = int(count * share / len(lengths))
                for _ in tqdm(range((wanted + 1) // 2), desc=f"drawing {frames} x {height} x {width}", leave=False):
                    seed = next(seeds)
                    triplet = sample_triplet(
                        seed,
                        groups[seed % len(groups)],
                        frames=frames,
                        height=height,
                        width=width,
                        variety=data.variety,
                    )
                    drawn += [torch.from_numpy(triplet.source), torch.from_numpy(triplet.target)]
                if drawn:
                    target.append((torch.stack(drawn) * 255).round().to(torch.uint8))
    return images, clips


def shape_share(index: int, count: int) -> float:
    """The first shape gets half of the examples, the others share the rest equally."""
    if count == 1:
        return 1.0
    return 0.5 if index == 0 else 0.5 / (count - 1)


def to_unit(frames: torch.Tensor) -> torch.Tensor:
    """uint8 [B, T, H, W, 3] -> [B, 3, T, H, W] in [-1, 1]."""
    return rearrange(frames, "b t h w c -> b c t h w").float() / 127.5 - 1
