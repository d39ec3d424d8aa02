"""Tell clips with a static background from those with a dynamic one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..candidate import Drop
from ..experts import Experts
from .base import Choices


def is_static(frames: Tensor, mask: Tensor, experts: Experts, choices: Choices) -> bool:
    """Whether the median motion outside the mask is below `choices.static_below`; a picture is static."""
    if len(frames) < 2:
        return True
    flow = experts.flow.flow(frames)
    inside = F.interpolate(mask[:-1, None].float(), flow.shape[1:3], mode="area")[:, 0] > 0
    speed = flow.norm(dim=-1)[~inside]
    if not speed.numel():
        return True
    return torch.median(speed).item() < choices.static_below * min(frames.shape[1:3])


def unsuited(frames: Tensor, mask: Tensor, experts: Experts, choices: Choices, wanted: str) -> Drop | None:
    """Why the clip's background does not suit a recipe; None if it does."""
    wanted = choices.background or wanted
    if wanted == "any":
        return None
    kind = "static" if is_static(frames, mask, experts, choices) else "dynamic"
    return None if kind == wanted else Drop(f"{kind} background", "flow")
