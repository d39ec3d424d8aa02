"""Stable Diffusion's noise schedule in flow-matching coordinates, in which all models here are sampled.

A diffusion model takes x_t = a x_0 + s eps with a = sqrt(abar_t), s = sqrt(1 - abar_t), and predicts eps or v. With
sigma = s / (a + s) and latents = x_t / (a + s), latents = (1 - sigma) x_0 + sigma eps: those of a flow model, whose
velocity is eps - x_0. An Euler step from sigma to sigma' is then exactly DDIM's from t to t'.
"""

from __future__ import annotations

from functools import cache

import torch

TRAINED_LEVELS = 1000
LATENT_SCALE = 0.18215  # of Stable Diffusion 1's latents
BETAS = (0.00085, 0.012)  # first and last of Stable Diffusion 1, linear in their square roots


@cache
def trained_sigmas() -> torch.Tensor:
    """sigma of each t from 0 to 999, float64 [1000], rising to .936: a trace of the data is left."""
    roots = torch.linspace(BETAS[0] ** 0.5, BETAS[1] ** 0.5, TRAINED_LEVELS, dtype=torch.float64)
    kept = (1 - roots.square()).cumprod(0)  # abar
    return (1 - kept).sqrt() / (kept.sqrt() + (1 - kept).sqrt())


def diffusion_schedule(steps: int) -> torch.Tensor:
    """The noise levels of a run, float64 [steps + 1], falling to 0.

    t is evenly spaced from 999, the noisiest, and the last step leads to the data ("trailing", Lin 2023).
    """
    places = torch.arange(TRAINED_LEVELS, 0, -TRAINED_LEVELS / steps, dtype=torch.float64)[:steps].round().long() - 1
    return torch.cat([trained_sigmas()[places], torch.zeros(1, dtype=torch.float64)])


def nearest_level(sigma: torch.Tensor) -> torch.Tensor:
    """The t [B] whose log(s / a) is closest to that of sigma [B]."""
    table = trained_sigmas().to(sigma.device, torch.float32)
    return (_log_ratio(sigma.float())[:, None] - _log_ratio(table)).abs().argmin(1)


def scales(sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """a and s of x_t = a x_0 + s eps, for a sigma below 1."""
    norm = ((1 - sigma).square() + sigma.square()).sqrt()
    return (1 - sigma) / norm, sigma / norm


def _log_ratio(sigma: torch.Tensor) -> torch.Tensor:
    return torch.logit(sigma, eps=1e-7)  # log(s / a) is log(sigma / (1 - sigma))
