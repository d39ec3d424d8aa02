"""Compositing: bit-exact outside the mask, and masks that find what changed."""

import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from instructx_core.compositing import changed_region, composite, inner_fade, restore_edit, widen, without_loss
from instructx_core.config import Detail
from instructx_core.errors import InputError
from instructx_core.fit import Fit, plan_fit


def pair(frames=2, height=24, width=32):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, frames, height, width, 3, generator=generator).unbind()


@given(feather=st.integers(0, 9), left=st.integers(0, 20), top=st.integers(0, 12), side=st.integers(1, 12))
def test_outside_the_mask_every_bit_is_the_sources(feather, left, top, side):
    source, edited = pair()
    mask = torch.zeros(1, 24, 32)
    mask[:, top : top + side, left : left + side] = 1
    result = composite(source, edited, mask, feather)
    outside = mask.expand(2, -1, -1) == 0
    assert torch.equal(result[outside], source[outside])
    if not feather:
        assert torch.equal(result[~outside], edited[~outside])


def test_fade_rises_inwards_to_one():
    mask = torch.zeros(1, 24, 32)
    mask[:, 2:22, 4:28] = 1
    fade = inner_fade(mask, 4)
    row = fade[0, 12]
    assert row[3] == 0
    assert 0 < row[4] < row[5] < row[8] == 1


@pytest.mark.parametrize("reach", [0, 1, 3, 40])
def test_a_mask_is_widened_by_a_square(reach):
    mask = torch.rand(2, 24, 32, generator=torch.Generator().manual_seed(2))
    square = torch.nn.functional.max_pool2d(mask, 2 * reach + 1, stride=1, padding=reach)
    assert torch.equal(widen(mask, reach), square)


def test_a_wide_fade_takes_no_square_of_its_width():
    """At its greatest width, on a small picture: seconds by rows and columns, minutes by squares."""
    began = time.process_time()
    fade = inner_fade(torch.ones(1, 160, 160), 512)
    assert fade.min() == fade.max() == 1
    assert widen(torch.eye(160)[None], 512).min() == 1
    assert time.process_time() - began < 2  # squares take 6


def test_changed_region_finds_the_square_and_no_speck():
    source, _ = pair()
    edited = source.clone()
    edited[:, 6:16, 8:20] = 1 - edited[:, 6:16, 8:20].round()
    edited[0, 1, 28] = 1 - edited[0, 1, 28].round()
    mask = changed_region(source * 0.2, edited * 0.2 + 0.5 * (edited != source), grow=0)
    assert mask[:, 6:16, 8:20].all()
    assert mask.sum() == 2 * 10 * 12


def test_no_change_gives_the_source():
    source, _ = pair()
    mask = changed_region(source, source.clone())
    assert not mask.any()
    assert torch.equal(composite(source, source.clone(), mask, 3), source)


@pytest.mark.parametrize("shape", [(1, 24, 32, 3), (2, 20, 32, 3)])
def test_other_sizes_are_named(shape):
    source, _ = pair()
    with pytest.raises(InputError, match=r"The source has 2 frames of 32 x 24.*Restore"):
        composite(source, torch.zeros(shape), torch.zeros(1, 24, 32))


def test_other_masks_are_named():
    source, edited = pair()
    with pytest.raises(InputError, match=r"The mask is 1 x 30 x 24"):
        composite(source, edited, torch.zeros(1, 24, 30))


def restored(source, decoded, share):
    """`restore_edit` of a source that lies in the model's frames as it is."""
    size = tuple(source.shape[1:3])
    return restore_edit(Fit(len(source), size, size, size, len(source)), source, source, decoded, share)


def test_pixels_that_hardly_change_come_back_exactly():
    source = torch.rand(2, 8, 8, 3, generator=torch.Generator().manual_seed(0))
    edited = (source + 0.01).clamp(0, 1)
    edited[:, :3, :3] = source[:, :3, :3] + 0.5 - source[:, :3, :3].round()  # by 0.5, towards the middle
    edited[:, 3, 3] = source[:, 3, 3] + 0.075
    kept = restored(source, edited, 0.2)  # of an edit of strength 0.5: exact below 0.05, edited above 0.1
    untouched = torch.ones(8, 8, dtype=torch.bool)
    untouched[:3, :3] = untouched[3, 3] = False
    assert torch.equal(kept[:, untouched], source[:, untouched])
    assert torch.equal(kept[:, :3, :3], edited[:, :3, :3])
    torch.testing.assert_close(kept[:, 3, 3], source[:, 3, 3] + 0.5 * 0.075, atol=2e-3, rtol=0)
    assert torch.equal(restored(source, edited, 0.0), edited)
    assert torch.equal(restored(source, source, 0.2), source)


def test_a_faint_edit_of_everything_stays():
    source = torch.rand(1, 6, 6, 3, generator=torch.Generator().manual_seed(0)) / 2
    assert torch.equal(restored(source, source + 0.02, 0.2), source + 0.02)


def test_a_larger_source_keeps_its_detail():
    """The canvas has a fourth of the source's sides: detail that it cannot hold is no change."""
    source = torch.rand(5, 32, 40, 3, generator=torch.Generator().manual_seed(0))
    fit = plan_fit(5, (32, 40), stride=2, frame_multiple=4, area=80)
    assert fit.canvas == fit.inner == (8, 10)
    fitted = fit.apply(source)
    decoded = fitted.clone()
    decoded[:, 2:5, 2:5] = 1 - decoded[:, 2:5, 2:5].round()
    kept = restore_edit(fit, source, fitted, decoded, 0.2, Detail.MODEL)
    far = torch.ones(32, 40, dtype=torch.bool)
    far[:28, :28] = False
    assert torch.equal(kept[:, far], source[:, far])
    assert torch.equal(kept[:, 14, 14], fit.restore(decoded)[:, 14, 14])
    assert not torch.equal(fit.restore(decoded)[:, far], source[:, far])


@pytest.mark.parametrize("shape", [(24, 32), (1, 24, 32), (2, 24, 32), (2, 1, 24, 32), (2, 24, 32, 1), (1, 1, 24, 32)])
def test_masks_of_two_to_four_dimensions(shape):
    source, edited = pair()
    mask = torch.zeros(24, 32)
    mask[4:12, 6:20] = 1
    given = mask.reshape([1 if side not in (24, 32) else side for side in shape]).expand(shape)
    whole = composite(source, edited, mask[None], 2)
    assert torch.equal(composite(source, edited, given, 2), whole)
    assert torch.equal(composite(source, edited, given.bool(), 2), whole)


@pytest.mark.parametrize("shape", [(32,), (2, 3, 24, 32), (2, 24, 32, 3), (1, 1, 1, 24, 32), (0, 24, 32), (0,), ()])
def test_what_is_no_mask_is_named(shape):
    source, edited = pair()
    with pytest.raises(InputError, match="The mask has the shape|The mask is"):
        composite(source, edited, torch.zeros(shape))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 2.0, -0.5])
def test_numbers_that_no_mask_holds(value):
    source, edited = pair()
    mask = torch.zeros(1, 24, 32)
    mask[0, 3, 4] = value
    with pytest.raises(InputError, match=r"mask: it holds .* at index \[0, 3, 4\]"):
        composite(source, edited, mask)
    with pytest.raises(InputError, match="the type int64"):
        composite(source, edited, torch.zeros(1, 24, 32, dtype=torch.int64))


def test_a_source_with_alpha_keeps_it_where_it_is_not_edited():
    source, edited = pair()
    alpha = torch.rand(2, 24, 32, 1, generator=torch.Generator().manual_seed(1))
    picture = torch.cat([source, alpha], dim=-1)
    mask = torch.zeros(1, 24, 32)
    mask[:, 4:16, 6:26] = 1
    result = composite(picture, edited, mask, 4)
    inside, outside = inner_fade(mask, 4).expand(2, -1, -1) >= 1, mask.expand(2, -1, -1) == 0
    assert result.shape == picture.shape
    assert torch.equal(result[outside], picture[outside])
    assert torch.equal(result[inside][:, :3], edited[inside])
    assert (result[inside][:, 3] == 1).all()
    assert result.isfinite().all() and result.min() >= 0 and result.max() <= 1 + 1e-6
    opaque = torch.cat([source, torch.ones_like(alpha)], dim=-1)
    torch.testing.assert_close(composite(opaque, edited, mask, 4)[..., :3], composite(source, edited, mask, 4))


def test_what_changed_is_seen_on_white():
    source, _ = pair()
    alpha = torch.ones(2, 24, 32, 1)
    alpha[:, :8] = 0
    picture = torch.cat([source, alpha], dim=-1)
    edited = source * alpha + (1 - alpha)  # what an edit that changes nothing makes of it
    assert not changed_region(picture, edited).any()
    edited[:, 10:20, 4:20] = 1 - edited[:, 10:20, 4:20].round()
    assert changed_region(picture, edited, grow=0)[:, 12:18, 6:18].all()


@given(st.integers(0, 2**31))
def test_what_only_the_vae_changed_is_the_source(seed):
    source, edited = torch.rand(2, 1, 8, 8, 3, generator=torch.Generator().manual_seed(seed))
    coded = (source + 0.02 * torch.randn(source.shape, generator=torch.Generator().manual_seed(seed))).clamp(0, 1)
    left_alone = torch.rand(1, 8, 8, 1, generator=torch.Generator().manual_seed(seed)) < 0.5
    result = without_loss(source, coded, torch.where(left_alone, coded, edited))
    torch.testing.assert_close(torch.where(left_alone, result, source), source, atol=1e-6, rtol=0)
    strong = (edited - coded).square().mean(-1, keepdim=True).sqrt() > 0.1
    assert torch.equal(torch.where(strong & ~left_alone, result, edited), edited)  # nothing shines through


def test_loss_comes_back_less_the_more_is_changed():
    """Half-way to where nothing is given back, half of the loss is."""
    source, coded = torch.full((2, 1, 1, 1, 3), 0.5).unbind()
    coded = coded - 0.04
    result = without_loss(source, coded, coded + 0.05)
    torch.testing.assert_close(result, torch.full_like(source, 0.46 + 0.05 + 0.5 * 0.04))


@pytest.mark.parametrize("alpha", [False, True])
def test_a_clip_is_composited_frame_by_frame(alpha):
    """One frame of a clip is what it is alone, whether the mask is one for all or one for each."""
    source, edited = (torch.rand(5, 24, 32, 3 + alpha, generator=torch.Generator().manual_seed(n)) for n in (0, 1))
    masks = (1.4 * torch.rand(5, 24, 32, generator=torch.Generator().manual_seed(2)) - 0.2).clamp(0, 1)
    for mask in (masks, masks[:1]):
        whole, region = composite(source, edited, mask, 2), changed_region(source, edited, 0.5, 1)
        for index in range(5):
            one = slice(index, index + 1)
            own = mask[one] if len(mask) > 1 else mask
            assert torch.equal(whole[one], composite(source[one], edited[one], own, 2))
            assert torch.equal(region[one], changed_region(source[one], edited[one], 0.5, 1))


class Written(TorchDispatchMode):
    """Operations that give new memory for more numbers than one frame has."""

    def __init__(self, frame):
        super().__init__()
        self.frame, self.met = frame, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = func(*args, **(kwargs or {}))
        if isinstance(given, torch.Tensor) and given.numel() > self.frame:
            had = {one.untyped_storage().data_ptr() for one in args if isinstance(one, torch.Tensor)}
            self.met += [str(func)] * (given.untyped_storage().data_ptr() not in had)
        return given


@pytest.mark.parametrize("alpha", [False, True])
def test_compositing_a_long_clip_takes_no_second_one(alpha):
    """Beside the result no operation works on more than a frame: 81 frames of a large size are 8 GB a copy."""
    source, edited = (torch.rand(6, 24, 32, 3 + alpha) for _ in range(2))
    with Written(24 * 32 * 4) as written:
        mask = changed_region(source, edited, 0.5, 1)
        composite(source, edited, mask[:1], 2)
    assert written.met == ["aten.empty.memory_format"] * 2
