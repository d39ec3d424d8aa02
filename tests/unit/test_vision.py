"""Qwen2.5-VL's preprocessing in torch against transformers' own and against loops that spell the order out."""

from __future__ import annotations

import math
from functools import cache
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from instructx_core.errors import InputError
from instructx_core.guidance.vision import CLIP_MEAN, CLIP_STD, smart_resize, to_patches
from support import tiny

MIN_PIXELS, MAX_PIXELS = 56 * 56, 84 * 112
ANY = 28 * 28, 10**9  # bounds that leave multiples of 28 as they are


@cache
def theirs() -> ModuleType:
    """transformers' preprocessing; transformers 5 has it for installations without torchvision."""
    try:
        from transformers.models.qwen2_vl import image_processing_pil_qwen2_vl as found
    except ImportError:
        from transformers.models.qwen2_vl import image_processing_qwen2_vl as found
    return found


def process(picture: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
    """What transformers makes of a uint8 picture [H, W, 3]: patches and grid."""
    module = theirs()
    kind = getattr(module, "Qwen2VLImageProcessorPil", None) or module.Qwen2VLImageProcessor
    processor = kind(min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS)
    batch = processor(images=[Image.fromarray(picture.numpy())], return_tensors="pt")
    return batch["pixel_values"], batch["image_grid_thw"][0].tolist()


@pytest.mark.parametrize("size", [(56, 84), (84, 56), (112, 84), (56, 56)])
def test_same_as_transformers_where_nothing_is_resized(size: tuple[int, int]):
    picture = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    values, grid = process(picture)
    ours = to_patches(picture[None] / 255, MIN_PIXELS, MAX_PIXELS)
    assert list(ours.grid) == grid and ours.tokens == math.prod(grid) // 4
    torch.testing.assert_close(ours.values, values, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(40, 50), (64, 64), (200, 90), (90, 333), (480, 640)])
def test_as_transformers_up_to_rounding_where_it_resizes(size: tuple[int, int]):
    """They round to 8 bits after resizing; these floats stay, which is all that differs."""
    picture = (tiny.clip(1, *size)[0] * 255).round().to(torch.uint8)
    values, grid = process(picture)
    ours = to_patches(picture[None] / 255, MIN_PIXELS, MAX_PIXELS)
    assert list(ours.grid) == grid
    one_level = 1 / 255 / min(CLIP_STD)
    torch.testing.assert_close(ours.values, values, atol=1.1 * one_level, rtol=0)


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 10**5), st.integers(10**5, 10**6))
def test_smart_resize_is_theirs(height: int, width: int, low: int, high: int):
    assume(max(height, width) <= 200 * min(height, width))
    expected = theirs().smart_resize(height, width, factor=28, min_pixels=low, max_pixels=high)
    assert smart_resize(height, width, low, high) == expected


def test_too_narrow_pictures_are_refused():
    assert smart_resize(10, 2000, MIN_PIXELS, 10**9) == (28, 812)
    with pytest.raises(InputError, match="2001 x 10 is too narrow"):
        smart_resize(10, 2001, MIN_PIXELS, 10**9)


def test_order_of_patches_spelt_out():
    frames = tiny.clip(4, 56, 84)
    patches = to_patches(frames, *ANY)
    normalised = (frames - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)
    expected = []
    for pair in range(2):
        for block_row in range(2):
            for block_column in range(3):
                for row in range(2):  # within what is merged to one token
                    for column in range(2):
                        top, left = (block_row * 2 + row) * 14, (block_column * 2 + column) * 14
                        patch = normalised[2 * pair : 2 * pair + 2, top : top + 14, left : left + 14]
                        expected.append(torch.stack([patch[..., channel] for channel in range(3)]).flatten())
    assert patches.grid == (2, 4, 6) and patches.tokens == 12
    torch.testing.assert_close(patches.values, torch.stack(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize("frames", [1, 3, 13])
def test_odd_lengths_repeat_the_last_frame(frames: int):
    clip = tiny.clip(frames, 56, 56)
    filled = torch.cat([clip, clip[-1:]])
    ours, even = to_patches(clip, *ANY), to_patches(filled, *ANY)
    assert ours.grid == even.grid == ((frames + 1) // 2, 4, 4)
    assert torch.equal(ours.values, even.values)


def test_half_precision_comes_out_as_float32():
    clip = tiny.clip(2, 56, 56).to(torch.float16)
    assert to_patches(clip, *ANY).values.dtype == torch.float32
