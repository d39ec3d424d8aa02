"""Qwen2.5-VL's image preprocessing in torch, so that pixels never leave it and no torchvision is needed.

The same values as the transformers processor: sides rounded to multiples of 28, CLIP's mean and deviation, patches of
2 frames x 14 x 14 pixels in the order in which the vision tower merges them 2 x 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange

from ..fit import check_aspect

PATCH, MERGE, TEMPORAL = 14, 2, 2
FACTOR = PATCH * MERGE
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Patches:
    """The vision tower's input for one image or clip."""

    values: torch.Tensor  # [t * h * w, 3 * 2 * 14 * 14], for a Qwen3-VL 16 * 16
    grid: tuple[int, int, int]  # t, h, w in patches
    seconds: tuple[float, ...] = ()  # of each temporal patch, if the prompt states them

    @property
    def tokens(self) -> int:
        """How many tokens of the language model's sequence they fill."""
        return math.prod(self.grid) // MERGE**2


def smart_resize(height: int, width: int, min_pixels: int, max_pixels: int, factor: int = FACTOR) -> tuple[int, int]:
    """Sides in multiples of 28 whose area is in [min_pixels, max_pixels], aspect kept as far as that allows.

    Args:
        factor: the sides become multiples of this instead of 28.

    Raises:
        InputError: one side is more than 200 times the other.
    """
    check_aspect((height, width), (height, width))
    new_height = round(height / factor) * factor
    new_width = round(width / factor) * factor
    if new_height * new_width > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        new_height = max(factor, math.floor(height / shrink / factor) * factor)
        new_width = max(factor, math.floor(width / shrink / factor) * factor)
    elif new_height * new_width < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        new_height = math.ceil(height * grow / factor) * factor
        new_width = math.ceil(width * grow / factor) * factor
    return new_height, new_width


def to_patches(frames: torch.Tensor, min_pixels: int, max_pixels: int) -> Patches:
    """Frames as input of the vision tower.

    Args:
        frames: [T, H, W, 3] in [0, 1]; an odd count is padded by repeating the last.
        min_pixels, max_pixels: bounds of a frame's area after resizing.
    """
    size = smart_resize(*frames.shape[1:3], min_pixels, max_pixels)
    pixels = rearrange(frames, "t h w c -> t c h w").float()
    # antialiased as in PIL, with which transformers resizes; clamped because bicubic overshoots
    if pixels.shape[-2:] != size:
        pixels = F.interpolate(pixels, size, mode="bicubic", antialias=True).clamp(0, 1)
    return cut(pixels)


def cut(
    pixels: torch.Tensor,
    patch: int = PATCH,
    mean: Sequence[float] = CLIP_MEAN,
    std: Sequence[float] = CLIP_STD,
    seconds: tuple[float, ...] = (),
) -> Patches:
    """Frames [T, 3, H, W] in [0, 1] whose sides are multiples of 2 * patch, normalised and cut; see `to_patches`."""
    pixels = (pixels - pixels.new_tensor(mean).view(3, 1, 1)) / pixels.new_tensor(std).view(3, 1, 1)
    if missing := -len(pixels) % TEMPORAL:  # a temporal patch is two frames; a still is shown twice
        pixels = torch.cat([pixels, pixels[-1:].expand(missing, -1, -1, -1)])
    # the four patches that the tower merges are neighbours in the sequence
    values = rearrange(
        pixels,
        "(t p) c (h mh ph) (w mw pw) -> (t h w mh mw) (c p ph pw)",
        p=TEMPORAL, mh=MERGE, mw=MERGE, ph=patch, pw=patch,
    )  # fmt: skip
    return Patches(values, (len(pixels) // TEMPORAL, pixels.shape[2] // patch, pixels.shape[3] // patch), seconds)
