"""Starts of training: what they promise holds before the first step."""

from __future__ import annotations

import pytest
import torch

from instructx_core.config import ConnectorConfig, ContextEntry, DenoiserConfig, SourceInjection
from instructx_core.connectors import Connector, make_connector
from instructx_core.context import Context
from instructx_core.denoiser import Denoiser
from instructx_core.families.tiny.prediction import ChangePrediction
from instructx_core.sampling import GuidanceTerm, sample
from recipes.tiny.initialisation import fold_statistics, start_unchanging, start_vae_linear
from support import tiny

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


@pytest.fixture
def fresh() -> tuple[Connector, Denoiser]:
    torch.manual_seed(0)
    connector = make_connector(ConnectorConfig(input_dim=64, hidden_dim=128, output_dim=tiny.TEXT_DIM))
    denoiser = Denoiser(
        tiny.transformer(), DenoiserConfig(SourceInjection.EMBEDDING), ContextEntry.TEXT, ChangePrediction()
    )
    start_unchanging(connector, denoiser)
    return connector, denoiser


@pytest.mark.parametrize("steps", [1, 4])
def test_an_edit_starts_by_changing_nothing_and_learns_from_the_first_step(fresh, steps: int):
    _, denoiser = fresh
    source, noise = torch.randn(2, 1, tiny.CHANNELS, 2, 4, 4)
    context, conditions = Context(torch.randn(1, 3, tiny.TEXT_DIM)), denoiser.conditions(source)
    edited = sample(denoiser, noise, [GuidanceTerm(1.0, context, conditions)], steps, shift=5.0)
    torch.testing.assert_close(edited, source)
    denoiser(noise, torch.ones(1), context, conditions).square().mean().backward()
    assert denoiser.transformer.proj_out.weight.grad.abs().max() > 0


@torch.no_grad()
def test_the_blocks_hear_the_guidance_from_the_start(fresh):
    connector, denoiser = fresh
    heard = denoiser.transformer.condition_embedder.text_embedder(connector(Context(torch.randn(64, 4, 64))).tokens)
    assert 0.2 < heard.std(0).mean() < 2  # torch's own start: 0.03
