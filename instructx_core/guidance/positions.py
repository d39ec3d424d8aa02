"""Qwen2.5-VL's three-axis positions, the same on transformers 4.57 and 5.x (whose own helper changed its signature)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch

from .vision import MERGE


def positions(
    token_ids: Sequence[int],
    grids: Sequence[tuple[int, int, int]],
    image_token: int,
    video_token: int,
    tokens_per_second: float,
    past_time: bool = False,
) -> torch.Tensor:
    """Positions (time, height, width) of one unpadded sequence.

    Text counts up on all three axes alike. A picture starts where the text stopped and spans its grid; text continues
    after the larger of its sides.

    Args:
        token_ids: the sequence, placeholders included.
        grids: (t, h, w) in patches of each run of placeholders, in order.
        past_time: text continues after the largest of all three axes, as in transformers up to 5.2: for a long clip
            of small frames that is time.

    Returns:
        int64 [3, len(token_ids)].
    """
    pieces: list[torch.Tensor] = []
    start = 0
    pictures = iter(grids)
    for kind, run in groupby(token_ids, key=lambda token: token if token in (image_token, video_token) else None):
        length = len(list(run))
        if kind is None:  # text: the same number on all three axes
            pieces.append(torch.arange(length).expand(3, -1) + start)
            start += length
            continue
        time, height, width = next(pictures)
        height, width = height // MERGE, width // MERGE  # the vision tower makes one token of 2 x 2 patches
        # a temporal patch of a video is a second (two frames at the processor's rate); a still has one patch, at time 0
        pace = tokens_per_second if kind == video_token else 1
        axes = torch.meshgrid(
            (torch.arange(time) * pace).long(), torch.arange(height), torch.arange(width), indexing="ij"
        )
        pieces.append(torch.stack(axes).reshape(3, -1) + start)  # [3, t * h * w]
        last = int(axes[0].max()) + 1 if past_time else 0
        start += max(height, width, last)
    return torch.cat(pieces, dim=1)
