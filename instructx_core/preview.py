"""A linear preview of latents, which a sampler can show after each step without running the VAE."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange

from .latents import LatentCodec
from .world import sample_triplet

PICTURES = 8
SIDE = 64
RIDGE = 1e-2  # keeps factors small where channels are correlated


@torch.no_grad()
def rgb_factors(codec: LatentCodec) -> tuple[torch.Tensor, torch.Tensor]:
    """The least-squares map from normalised latents to colours, fitted on a few pictures of the procedural world.

    Returns:
        factors [C, 3] and bias [3] for colours in [-1, 1].
    """
    frames = torch.stack(
        [
            torch.from_numpy(sample_triplet(seed, "recolor", height=SIDE, width=SIDE).source[0])
            for seed in range(PICTURES)
        ]
    )
    device = codec.mean.device
    latents = torch.cat([codec.encode(frame[None, None].to(device)) for frame in frames])
    colours = F.avg_pool2d(rearrange(frames, "b h w c -> b c h w"), codec.stride) * 2 - 1
    known = rearrange(latents[:, :, 0], "b c h w -> (b h w) c").double().cpu()
    known = F.pad(known, (0, 1), value=1.0)  # the bias
    wanted = rearrange(colours, "b c h w -> (b h w) c").double()
    ridge = RIDGE * len(known) * torch.eye(known.shape[1], dtype=torch.float64)
    solved = torch.linalg.solve(known.T @ known + ridge, known.T @ wanted).float()
    return solved[:-1], solved[-1]
