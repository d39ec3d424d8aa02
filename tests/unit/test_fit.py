"""Sources of any size and length lie in the model's frames and come back where they were."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instructx_core.errors import InputError
from instructx_core.fit import fit_reference, plan_fit
from support import tiny

SIDES = st.integers(1, 90)
STRIDES = st.sampled_from([8, 12, 16, 32])
MULTIPLES = st.sampled_from([1, 2, 4, 8])


@settings(max_examples=40)
@given(st.integers(1, 12), SIDES, SIDES, STRIDES, MULTIPLES, st.integers(200, 8000))
def test_there_and_back(frames: int, height: int, width: int, stride: int, multiple: int, area: int):
    source = torch.rand(frames, height, width, 3)
    fit = plan_fit(frames, (height, width), stride, multiple, area)
    fitted = fit.apply(source)
    back = fit.restore(fitted)
    assert tuple(fitted.shape) == (fit.padded_frames, *fit.canvas, 3)
    assert back.shape == source.shape and back.dtype == torch.float32
    for pixels in (fitted, back):
        assert pixels.min() >= 0 and pixels.max() <= 1


@given(st.integers(1, 500), *[st.integers(1, 4000)] * 2, STRIDES, MULTIPLES, st.integers(200, 10**6))
def test_plan(frames: int, height: int, width: int, stride: int, multiple: int, area: int):
    fit = plan_fit(frames, (height, width), stride, multiple, area)
    assert all(side % stride == 0 and side > 0 for side in fit.canvas)
    assert all(1 <= inner <= side for inner, side in zip(fit.inner, fit.canvas, strict=True))
    assert any(inner == side for inner, side in zip(fit.inner, fit.canvas, strict=True))  # no margin on both sides
    assert (fit.padded_frames - 1) % multiple == 0 and frames <= fit.padded_frames < frames + multiple
    # one factor for both sides, up to whole pixels
    scale = min(canvas / side for canvas, side in zip(fit.canvas, (height, width), strict=True))
    for inner, side in zip(fit.inner, (height, width), strict=True):
        assert abs(inner - side * scale) <= 0.5 or inner == 1
    # as near to the trained area, in the source's aspect, as whole strides allow
    wanted = math.sqrt(area / (height * width))
    for canvas, side in zip(fit.canvas, (height, width), strict=True):
        assert abs(canvas - side * wanted) <= stride / 2 + 1e-6 or canvas == stride


@pytest.mark.parametrize("frames", [1, 5, 9])
def test_what_fits_already_is_left_untouched(frames: int):
    source = torch.rand(frames, 48, 80, 3)
    fit = plan_fit(frames, (48, 80), stride=16, frame_multiple=4, area=48 * 80)
    assert fit.canvas == fit.inner == (48, 80)
    assert torch.equal(fit.apply(source), source) and torch.equal(fit.restore(source), source)


def test_short_of_frames_the_last_one_is_repeated():
    source = torch.rand(6, 16, 16, 3)
    fit = plan_fit(6, (16, 16), 16, 4, 256)
    fitted = fit.apply(source)
    assert len(fitted) == 9
    assert torch.equal(fitted[:6], source) and all(torch.equal(frame, source[5]) for frame in fitted[6:])
    assert torch.equal(fit.restore(fitted), source)


def test_the_margin_repeats_the_edge():
    source = torch.rand(1, 30, 48, 3)
    fit = plan_fit(1, (30, 48), 16, 1, 32 * 48)
    fitted = fit.apply(source)
    assert fit.canvas == (32, 48) and fit.inner == (30, 48)
    assert torch.equal(fitted[:, :30], source)
    assert torch.equal(fitted[:, 30], source[:, 29]) and torch.equal(fitted[:, 31], source[:, 29])


def blob(height: int, width: int, y: float, x: float) -> torch.Tensor:
    """A soft spot [1, H, W, 3] with its centre at the fractions y, x of the frame."""
    rows, columns = (torch.arange(side) + 0.5 for side in (height, width))
    spread = 0.08 * min(height, width)
    column = torch.exp(-((rows - y * height) ** 2) / (2 * spread**2))
    row = torch.exp(-((columns - x * width) ** 2) / (2 * spread**2))
    return (column[:, None] * row)[None, ..., None].expand(1, height, width, 3)


def centre(frames: torch.Tensor) -> torch.Tensor:
    """Centre of mass (y, x) in pixels, of pixel areas: the first pixel's own centre is at 0.5."""
    weight = frames[0, ..., 0]
    rows, columns = (torch.arange(side) + 0.5 for side in weight.shape)
    return torch.stack([(weight.sum(1) * rows).sum(), (weight.sum(0) * columns).sum()]) / weight.sum()


@pytest.mark.parametrize("size", [(37, 53), (64, 64), (100, 45), (61, 240), (301, 211)])
@pytest.mark.parametrize("place", [(0.5, 0.5), (0.3, 0.65)])
def test_nothing_moves(size: tuple[int, int], place: tuple[float, float]):
    source = blob(*size, *place)
    fit = plan_fit(1, size, 16, 4, 64 * 64)
    fitted = fit.apply(source)
    scale = torch.tensor([inner / side for inner, side in zip(fit.inner, size, strict=True)])
    assert (centre(fitted) - centre(source) * scale).abs().max() < 0.1
    assert (centre(fit.restore(fitted)) - centre(source)).abs().max() < 0.1


@pytest.mark.parametrize("size", [(37, 53), (96, 96), (120, 45), (301, 211)])
def test_smooth_pictures_come_back(size: tuple[int, int]):
    source = tiny.clip(2, *size)
    fit = plan_fit(2, size, 16, 1, 64 * 64)
    assert (fit.restore(fit.apply(source)) - source).abs().max() < 0.03


def test_a_given_canvas_is_used_as_given():
    fit = plan_fit(3, (100, 50), 16, 4, 64 * 64, canvas=(32, 96))
    assert fit.canvas == (32, 96) and fit.inner == (32, 16)
    assert fit.restore(fit.apply(torch.rand(3, 100, 50, 3))).shape == (3, 100, 50, 3)


@pytest.mark.parametrize(
    ("canvas", "message"),
    [
        ((0, 16), "height is 0; give a positive multiple of 16, for example 16"),
        ((16, -16), "width is -16; .* for example 16"),
        ((16, 57), "width is 57; .* for example 64"),
        ((40.0, 16), "height is 40.0; give a whole number"),
        ((16, True), "width is True; give a whole number"),
        (("64", 16), "height is '64'; give a whole number"),
        ((float("nan"), 16), "height is nan; give a whole number"),
    ],
)
def test_a_canvas_that_does_not_fit_the_stride(canvas, message: str):
    with pytest.raises(InputError, match=message):
        plan_fit(1, (64, 64), 16, 4, 64 * 64, canvas)


@pytest.mark.parametrize("size", [(48, 48), (20, 70), (200, 33), (1, 1)])
def test_a_reference_is_whole_and_in_the_middle(size: tuple[int, int]):
    canvas = (48, 80)
    assert fit_reference(torch.full((*size, 3), 0.25), canvas).sub(0.25).abs().max() < 1e-6
    if min(size) > 10:
        fitted = fit_reference(blob(*size, 0.5, 0.5)[0], canvas)
        assert fitted.shape == (*canvas, 3)
        assert (centre(fitted[None]) - torch.tensor(canvas) / 2).abs().max() < 0.6  # an odd margin is half a pixel off
