"""The definition of a successful edit, on frames made by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instructx_core.errors import InputError
from instructx_core.evaluation import edited_region, psnr, score_edit, score_unedited


def frames(value: float = 0.5, length: int = 2, side: int = 8) -> torch.Tensor:
    return torch.full((length, side, side, 3), value)


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """A grey source, and a target whose upper left quarter is 0.4 brighter in red."""
    source, target = frames(), frames()
    target[:, :4, :4, 0] += 0.4
    return source, target


def test_region_is_what_changes_by_more_than_a_tenth_in_any_channel():
    source, target = pair()
    target[:, 7, 7] += 0.099
    region = edited_region(source, target)
    assert region.dtype == torch.bool and region.shape == (2, 8, 8)
    assert region[:, :4, :4].all() and region.sum() == 2 * 16


def test_psnr_of_a_known_error():
    assert psnr(frames(0.5), frames(0.6)) == pytest.approx(20, abs=1e-4)
    assert psnr(frames(), frames()) == 100


def test_psnr_counts_only_the_masked_pixels():
    output, mask = frames(), torch.zeros(2, 8, 8, dtype=torch.bool)
    output[:, 0, 0] += 0.1
    mask[:, 0, 0] = True
    assert psnr(output, frames(), mask) == pytest.approx(20, abs=1e-4)
    assert psnr(output, frames(), ~mask) == 100


def test_psnr_of_nan_is_no_success():
    source, target = pair()
    output = target.clone()
    output[0, 7, 7, 0] = math.nan
    assert math.isnan(psnr(output, target))
    assert not score_edit(output, target, source).success


def test_the_target_succeeds_and_the_source_does_not():
    source, target = pair()
    perfect, copied = score_edit(target, target, source), score_edit(source, target, source)
    assert perfect.success and perfect.remaining == 0 and perfect.outside_psnr == 100
    assert not copied.success and copied.remaining == pytest.approx(1)


@pytest.mark.parametrize(("share", "success"), [(0.49, True), (0.51, False)])
def test_half_of_the_way_decides_inside(share: float, success: bool):
    source, target = pair()
    score = score_edit(target + share * (source - target), target, source)
    assert score.remaining == pytest.approx(share, abs=1e-4)
    assert score.success is success


@pytest.mark.parametrize(("decibel", "success"), [(24.1, True), (23.9, False)])
def test_24_db_decide_outside(decibel: float, success: bool):
    source, target = pair()
    output = target.clone()
    output[~edited_region(source, target)] += 10 ** (-decibel / 20)
    score = score_edit(output, target, source)
    assert score.outside_psnr == pytest.approx(decibel, abs=1e-3)
    assert score.success is success


def test_an_edit_of_everything_has_no_outside():
    score = score_edit(frames(0.9), frames(0.9), frames(0.1))
    assert score.success and score.outside_psnr is None


def test_an_invisible_edit_cannot_be_judged():
    with pytest.raises(InputError, match="does not differ"):
        score_edit(frames(), frames(0.55), frames(0.5))


def test_shapes_must_agree():
    with pytest.raises(InputError, match="shape"):
        score_edit(frames(length=1), frames(0.9), frames(0.1))


def test_unedited_pixels_are_compared_with_the_reconstruction():
    source, target = pair()
    target[:, 4, :4] += 0.05  # a rim: changed a little, neither edited nor unedited
    output, reconstruction = target + 0.1, source + 0.01
    score = score_unedited(output, reconstruction, source, target)
    assert score is not None
    assert score.output == pytest.approx(20, abs=1e-3)
    assert score.reconstruction == pytest.approx(40, abs=1e-3)
    assert score.gap == pytest.approx(20, abs=1e-3)


def test_nothing_unedited_gives_no_score():
    assert score_unedited(frames(0.9), frames(0.1), frames(0.1), frames(0.9)) is None


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), length=st.integers(1, 3), side=st.integers(1, 6))
def test_target_and_source_are_the_two_ends_of_the_scale(seed: int, length: int, side: int):
    generator = torch.Generator().manual_seed(seed)
    source = torch.rand((length, side, side, 3), generator=generator)
    target = 1 - source
    if edited_region(source, target).any():
        assert score_edit(target, target, source).success
        assert score_edit(source, target, source).remaining == pytest.approx(1)
