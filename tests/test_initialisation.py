"""Starts of training: what they promise holds before the first step."""

from __future__ import annotations

import math

import pytest
import torch

from instructx_core.config import ContextEntry, DenoiserConfig, SourceInjection
from instructx_core.denoiser import Conditions, Denoiser
from instructx_core.training.initialisation import fold_statistics, start_dit_copying, start_vae_linear

ONE_LEVEL = {"base_dim": 40, "dim_mult": [1], "num_res_blocks": 1, "temperal_downsample": []}
PATCHED = {
    "in_channels": 48,
    "out_channels": 48,
    "patch_size": 4,
    "scale_factor_temporal": 1,
    "scale_factor_spatial": 4,
}


@pytest.fixture
def pixels() -> torch.Tensor:
    """Random pictures, smooth but for a little grain, [N, 3, 1, 16, 16] in [-1, 1]."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(48, 3, 5, 5, generator=generator) * 2 - 1
    smooth = torch.nn.functional.interpolate(coarse, (16, 16), mode="bilinear", align_corners=True)
    return (smooth + 0.05 * torch.randn(smooth.shape, generator=generator))[:, :, None]


@pytest.fixture
def vae(pixels: torch.Tensor):
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    vae = AutoencoderKLWan(z_dim=16, **ONE_LEVEL, **PATCHED).eval()
    start_vae_linear(vae, pixels)
    return vae


@torch.no_grad()
def reconstruct(vae, pixels: torch.Tensor) -> torch.Tensor:
    return vae.decode(vae.encode(pixels).latent_dist.mean).sample


def test_a_vae_starts_as_principal_components(vae, pixels: torch.Tensor):
    """Against numpy's own best 16-dimensional subspace of all 4 x 4 patches."""
    patches = torch.nn.functional.unfold(pixels[:, :, 0], 4, stride=4).transpose(1, 2).reshape(-1, 48).double()
    centred = patches - patches.mean(0)
    values = torch.linalg.svdvals(centred)
    best = (values[16:].square().sum() / centred.numel()).item()
    error = (reconstruct(vae, pixels) - pixels).square().mean().item()
    assert error < 1.1 * best + 1e-5


@torch.no_grad()
def test_folding_keeps_reconstructions_and_gives_the_declared_statistics(vae, pixels: torch.Tensor):
    before = reconstruct(vae, pixels)
    fold_statistics(vae, pixels)
    torch.testing.assert_close(reconstruct(vae, pixels), before, atol=2e-4, rtol=1e-4)
    code = vae.encode(pixels).latent_dist.mean
    mean, std = torch.tensor(vae.config.latents_mean), torch.tensor(vae.config.latents_std)
    normalised = (code - mean.view(1, -1, 1, 1, 1)) / std.view(1, -1, 1, 1, 1)
    torch.testing.assert_close(normalised.mean((0, 2, 3, 4)), torch.zeros(16), atol=1e-3, rtol=0)
    deviation = normalised.std((0, 2, 3, 4))
    assert deviation.square().mean().sqrt().item() == pytest.approx(1, abs=1e-3)
    # components come in falling order, and so does what they weigh
    assert deviation[0] > 1.5 * deviation[-1]


@pytest.mark.parametrize("sigma", [0.1, 0.5, 0.9, 1.0])
@torch.no_grad()
def test_a_dit_starts_by_copying_its_source(sigma: float):
    from diffusers import WanTransformer3DModel

    torch.manual_seed(0)
    transformer = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=128,
        num_layers=2,
        ffn_dim=64,
        text_dim=32,
        freq_dim=256,
        cross_attn_norm=True,
    )
    denoiser = Denoiser(transformer, DenoiserConfig(SourceInjection.EMBEDDING), ContextEntry.TEXT)
    start_dit_copying(denoiser)
    source, noise = torch.randn(2, 1, 16, 2, 4, 4)
    noisy = (1 - sigma) * torch.randn_like(source) + sigma * noise
    velocity = denoiser(noisy, torch.tensor([sigma]), Conditions(torch.randn(1, 3, 32), source))
    copied = noisy - sigma * velocity
    # the last LayerNorm divides by a number that is only almost constant
    assert (copied - source).square().mean().sqrt() < 0.1 * math.sqrt(2)
