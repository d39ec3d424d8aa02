"""COCO's run-length masks, read and written."""

from __future__ import annotations

import pytest
import torch

from instructx_core.coco_masks import decode_mask, encode_mask
from instructx_core.errors import InputError


def test_both_kinds_of_counts():
    """The text is what pycocotools writes for this mask of 4 x 5: a row of two and single pixels."""
    mask = torch.zeros(4, 5, dtype=torch.bool)
    mask[1, 1:3] = mask[3, 4] = True
    counts = [5, 1, 3, 1, 9, 1]  # column by column, off and on in turn
    assert torch.equal(decode_mask({"size": [4, 5], "counts": counts}, "x"), mask)
    assert torch.equal(decode_mask({"size": [4, 5], "counts": "513060"}, "x"), mask)  # 9 is 3 + 6, the last 1 is 1 + 0


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        {},
        {"size": [4, 5], "counts": [1]},
        {"size": [4, 5], "counts": "ZZZZ"},
        {"size": [4, 5], "counts": [-1, 21]},
        {"size": [10**6, 10**6], "counts": [10**12]},
        {"size": [4], "counts": [4]},
        {"size": [4, 5], "counts": [True] * 20},
    ],
)
def test_damaged_masks(segmentation):
    with pytest.raises(InputError, match="^Entry 1: (the segmentation is|the segmentation's runs do not fill)"):
        decode_mask(segmentation, "Entry 1")


def test_masks_come_back():
    generator = torch.Generator().manual_seed(0)
    for share in (0.0, 0.02, 0.5, 1.0):
        mask = torch.rand(37, 81, generator=generator) < share
        assert torch.equal(decode_mask(encode_mask(mask), "the mask"), mask)
    # by hand: columns 0011, 1100, of a 4 x 2 mask: runs 2, 4, 2
    mask = torch.tensor([[0, 1], [0, 1], [1, 0], [1, 0]], dtype=torch.bool)
    assert encode_mask(mask) == {"size": [4, 2], "counts": "242"}
