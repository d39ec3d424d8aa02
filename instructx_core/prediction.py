"""What a DiT's output means: a velocity as it is, or what to change in the source, from which one follows."""

from __future__ import annotations

import torch


def velocity_of_change(
    change: torch.Tensor, latents: torch.Tensor, source: torch.Tensor, sigma: torch.Tensor, deadband: float = 0.0
) -> torch.Tensor:
    """The velocity that leads from `latents` to source + change, all [B, C, T, H, W]; sigma [B] or scalar, above 0.

    Args:
        deadband: see `keep_still`.
    """
    return (latents - source - keep_still(change, deadband)) / sigma.to(latents).view(-1, 1, 1, 1, 1)


def keep_still(change: torch.Tensor, deadband: float) -> torch.Tensor:
    """`change` [B, C, T, H, W] with nothing left of it where it is small.

    A regression never predicts exactly nothing, so what an edit should leave alone drifts a little everywhere. A place
    (all channels of one t, h, w) stays as it is when its RMS is below `deadband` times the RMS of the whole change;
    above, it shrinks by less and less: the non-negative garrote (Breiman 1995), continuous where places cross over.
    """
    if not deadband:
        return change
    power = change.float().square().mean(1, keepdim=True)
    floor = deadband**2 * power.mean((2, 3, 4), keepdim=True).detach()
    tiny = torch.finfo(power.dtype).tiny
    return change * (1 - floor / power.clamp(min=tiny)).clamp(min=0).to(change)
