"""Several instructions, each acting in its own place: a token attends to those that apply to it (CoinVE-Edit)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from .image_stream import Attend, KeysValues


def attend_in_places(
    attend: Attend,
    query: torch.Tensor,
    local: Sequence[KeysValues],
    masks: torch.Tensor,
    strength: torch.Tensor,
    attended: torch.Tensor,
) -> torch.Tensor:
    """Blend each token's attention to the whole instruction with its attention to the local instructions.

    Args:
        attend: (query, key, value) -> [B, tokens, heads, head].
        query: [B, tokens, heads, head].
        local: keys and values of each of K local instructions.
        masks: [B, K, tokens] in [0, 1]; if they add up to less than 1, the whole instruction has the remaining weight.
        strength: of the blend, a scalar: 0 ignores the local instructions, 1 follows the masks.
        attended: the result of `attend` for the whole instruction.
    """
    weights = masks.to(query)[..., None, None]  # [B, K, tokens, 1, 1]
    found = torch.stack([attend(query, *pair) for pair in local], dim=1)  # [B, K, tokens, heads, head]
    total = weights.sum(1)  # [B, tokens, 1, 1]
    mixed = (weights * found).sum(1) / total.clamp(min=1e-6)
    return attended + strength.to(query) * total.clamp(0, 1) * (mixed - attended)


def masks_of_tokens(masks: torch.Tensor, tokens: tuple[int, int, int], further: tuple[int, int]) -> torch.Tensor:
    """Resize masks [B, K, t, h, w] to the grid of a DiT's tokens: [B, K, all tokens].

    Args:
        tokens: (time, height, width) of the edit.
        further: token frames before and after the edit's, of references, where the masks are 0.
    """
    resized = F.interpolate(masks.float(), tokens, mode="trilinear", align_corners=False)
    return F.pad(resized, (0, 0, 0, 0, *further)).flatten(2)
