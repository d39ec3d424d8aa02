"""Detail transfer: exact where nothing changed, sharp where colours are mapped, no source left under what is new."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instructx_core.compositing import edited_weight, restore_edit, restored_frames
from instructx_core.config import Detail
from instructx_core.detail import STRIP, carry, gain, parse_detail, sharpened
from instructx_core.errors import InputError
from instructx_core.fit import Fit, plan_fit, resize


def picture(frames=1, height=96, width=128, seed=0):
    """Smooth colours under a fine texture that a canvas of a fourth of the size cannot hold."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(frames, 6, 8, 3, generator=generator) * 0.6 + 0.2
    fine = torch.rand(1, height, width, 3, generator=generator) - 0.5
    return (resize(coarse, (height, width)) + 0.15 * fine).clamp(0, 1)


def quarter(frames):
    return plan_fit(len(frames), tuple(frames.shape[1:3]), 8, 4, frames.shape[1] * frames.shape[2] // 16)


def psnr(a, b):
    return -10 * math.log10((a - b).square().mean().item())


def edited(source, function, detail=Detail.SOURCE, share=0.0):
    """`function` applied on the canvas, restored; and applied to the source itself."""
    fit = quarter(source)
    fitted = fit.apply(source)
    return restore_edit(fit, source, fitted, function(fitted), share, detail), function(source)


MAPS = {
    "grayscale": lambda x: x.mean(-1, keepdim=True).expand_as(x),
    "invert": lambda x: 1 - x,
    "warmer": lambda x: x * torch.tensor([1.1, 1.0, 0.7]),
    "exchanged channels": lambda x: x[..., [1, 2, 0]],
}


@pytest.mark.parametrize("name", MAPS)
def test_a_colour_map_of_everything_reaches_every_pixel(name):
    source = picture()
    mine, target = edited(source, MAPS[name])
    plain, _ = edited(source, MAPS[name], Detail.MODEL)
    assert psnr(mine, target) > 37
    assert psnr(mine, target) > psnr(plain, target) + 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_pixels_far_from_any_change_are_the_sources_to_the_last_bit(dtype):
    source = picture(3)
    if dtype is torch.uint8:
        source = (source * 255).round().to(torch.uint8)
    floats = source.float() / (255 if dtype is torch.uint8 else 1)
    fit = quarter(source)
    fitted = fit.apply(floats)
    decoded = fitted.clone()
    decoded[:, 8:12, 10:14] = 1 - decoded[:, 8:12, 10:14]
    result = restore_edit(fit, source, fitted, decoded, 0.0, dtype=dtype)
    assert result.dtype == dtype
    far = torch.ones(96, 128, dtype=torch.bool)
    far[:84, 4:92] = False  # two windows and a cubic's reach around the change, in pixels of the source
    assert torch.equal(result[:, far], source[:, far])
    assert not torch.equal(result[:, 40, 48], source[:, 40, 48])
    assert torch.equal(restore_edit(fit, source, fitted, fitted.clone(), 0.0, dtype=dtype), source)


def test_what_is_new_hides_the_texture_that_was_there():
    """A flat patch on a texture: inside it, nothing of the source's detail is left."""
    source = picture()
    fit = quarter(source)
    fitted = fit.apply(source)
    decoded = fitted.clone()
    decoded[:, 4:20, 6:26] = torch.tensor([0.8, 0.1, 0.1])
    result = restore_edit(fit, source, fitted, decoded, 0.0)
    inside = result[:, 44:56, 56:72]
    assert (inside - torch.tensor([0.8, 0.1, 0.1])).abs().mean() < 0.02
    assert source[:, 44:56, 56:72].std() > 0.04


def test_the_edge_of_something_new_does_not_make_the_sources_grain_visible():
    """A gradient that a new edge happens to correlate with is no reason to multiply the grain that lies on it."""
    generator = torch.Generator().manual_seed(0)
    gradient = torch.linspace(0.4, 0.45, 128)[None, None, :, None].expand(1, 96, 128, 3)
    grain = 0.02 * (torch.rand(1, 96, 128, 3, generator=generator) - 0.5)
    source = gradient + grain
    fit = quarter(source)
    fitted = fit.apply(source)
    decoded = fitted.clone()
    decoded[:, :, 16:] = torch.tensor([0.1, 0.2, 0.9])
    result = restore_edit(fit, source, fitted, decoded, 0.0)
    smooth = restore_edit(fit, gradient, fit.apply(gradient), decoded, 0.0)
    assert (result - smooth).std() < 1.5 * grain.std()


def test_a_recoloured_object_keeps_the_sources_edge():
    """The canvas draws a soft edge; source and result have a hard one at the same pixels."""
    source = torch.full((1, 96, 128, 3), 0.3)
    disc = (torch.arange(96)[:, None] - 47.5) ** 2 + (torch.arange(128)[None] - 63.5) ** 2 < 27**2
    source[:, disc] = torch.tensor([0.9, 0.1, 0.1])
    target = source.clone()
    target[:, disc] = torch.tensor([0.1, 0.2, 0.9])
    fit = quarter(source)
    decoded = fit.apply(target)
    mine = restore_edit(fit, source, fit.apply(source), decoded, 0.0)
    plain = restore_edit(fit, source, fit.apply(source), decoded, 0.0, Detail.MODEL)
    assert psnr(mine, target) > psnr(plain, target) + 12


@settings(max_examples=20, deadline=None)
@given(st.integers(20, 90), st.integers(20, 90), st.integers(1, 30))
def test_strips_make_no_difference(height, width, rows):
    import instructx_core.detail as module

    source = picture(1, height, width)[0]
    small = resize(source[None], (height // 2, width // 2))
    change = 0.3 - 0.5 * small
    gains = gain(small, change, 0)
    whole = carry(source, small[0], change[0], gains)
    module.STRIP, kept = rows * width, module.STRIP
    try:
        parts = carry(source, small[0], change[0], gains)
    finally:
        module.STRIP = kept
    torch.testing.assert_close(whole, parts, atol=1e-6, rtol=0)
    assert STRIP >= 2**16


def test_still_pixels_of_a_clip_do_not_flicker():
    """Noise of the model over a still source: carried detail flickers no more than the model's own pixels do."""
    source = picture(1).expand(9, -1, -1, -1)
    fit = Fit(9, (96, 128), (24, 32), (24, 32), 9)
    fitted = fit.apply(source)
    noise = 0.01 * torch.randn(fitted.shape, generator=torch.Generator().manual_seed(1))
    decoded = (MAPS["grayscale"](fitted) + noise).clamp(0, 1)

    def flicker(detail):
        frames = restore_edit(fit, source, fitted, decoded, 0.0, detail)
        return (frames[1:] - frames[:-1]).abs().mean()

    assert flicker(Detail.SOURCE) < 1.15 * flicker(Detail.MODEL)


def test_a_source_that_the_canvas_holds_is_restored_as_before():
    source = picture(1, 24, 32)
    fit = Fit(1, (24, 32), (24, 32), (24, 32), 1)
    decoded = 1 - source
    assert torch.equal(restore_edit(fit, source, source, decoded, 0.0), decoded)
    larger = Fit(1, (24, 32), (48, 64), (48, 64), 1)
    fitted = larger.apply(source)
    assert not larger.shrinks
    assert torch.equal(restore_edit(larger, source, fitted, 1 - fitted, 0.0), larger.restore(1 - fitted))


@pytest.mark.parametrize("size", [(5, 700), (700, 5), (1, 200), (200, 1), (9, 300), (97, 131), (66, 900)])
@pytest.mark.parametrize("frames", [1, 5])
def test_strips_and_odd_sizes_keep_their_detail(size, frames):
    """A canvas may hold one side whole and not the other: what it lacks comes from the source all the same."""
    ramp = torch.linspace(0.2, 0.8, max(size)).reshape((1, -1, 1) if size[0] > size[1] else (1, 1, -1))
    grain = 0.2 * (torch.rand(frames, *size, generator=torch.Generator().manual_seed(0)) - 0.5)
    source = (ramp + grain)[..., None] * torch.tensor([1.0, 0.8, 0.6])
    canvas = tuple(8 * max(1, round(side * 0.9 / 8)) for side in size)
    fit = plan_fit(frames, size, 8, 4, 1, canvas)
    assert fit.shrinks
    fitted = fit.apply(source)
    for share in (0.0, 0.2):
        assert torch.equal(restore_edit(fit, source, fitted, fitted.clone(), share), source)
        made = restore_edit(fit, source, fitted, 1 - fitted, share)
        plain = restore_edit(fit, source, fitted, 1 - fitted, share, Detail.MODEL)
        assert psnr(made, 1 - source) > psnr(plain, 1 - source) + 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("size", [(96, 128), (24, 32), (20, 24)])
@pytest.mark.parametrize("detail", Detail)
def test_floats_of_any_kind_are_restored(dtype, size, detail):
    source = picture(2, *size).to(dtype)
    fit = plan_fit(2, size, 8, 4, 24 * 32)
    fitted = fit.apply(source)
    change = torch.zeros_like(fitted)
    change[:, :8, :8] = 0.3
    made = restore_edit(fit, source, fitted, (fitted + change).to(dtype), 0.2, detail)
    exact = restore_edit(
        fit, source.float(), fit.apply(source.float()), (fitted + change).to(dtype).float(), 0.2, detail
    )
    torch.testing.assert_close(made, exact, atol=1e-2 if dtype == torch.bfloat16 else 2e-3, rtol=0)
    assert torch.equal(restore_edit(fit, source, fitted, fitted, 0.2, detail), source.float())


def test_frames_come_one_by_one():
    source = picture(5)
    fit = quarter(source)
    fitted = fit.apply(source)
    decoded = 1 - fitted
    frames = restored_frames(fit, iter(source), fitted, decoded, 0.2)
    whole = restore_edit(fit, source, fitted, decoded, 0.2)
    for one, same in zip(frames, whole, strict=True):
        assert torch.equal(one, same)


def test_what_a_model_adds_to_a_picture_it_leaves_alone_goes():
    """Changes of less than about 2 / 255 everywhere are no edit; a faint one that can be seen stays."""
    source = picture(1, 24, 32)
    assert not edited_weight(source, source + 0.008, 0.2).any()
    assert (edited_weight(source, source + 0.021, 0.2) == 1).all()


def test_other_names_are_refused():
    assert parse_detail("model") is Detail.MODEL
    with pytest.raises(InputError, match="source or model"):
        parse_detail("both")


def soft(pixels: torch.Tensor) -> torch.Tensor:
    """As a model draws whose edges are 5 pixels wide."""
    return torch.nn.functional.avg_pool2d(pixels.permute(2, 0, 1)[None], 5, 1, 2)[0].permute(1, 2, 0)


def test_recoloured_shapes_get_their_source_s_edges():
    source = torch.full((64, 64, 3), 0.5)
    source[19:45, 21:43] = torch.tensor([0.9, 0.1, 0.1])
    exact = source.clone()
    exact[19:45, 21:43] = torch.tensor([0.1, 0.2, 0.9])
    edited = (source + soft(exact - source)).clamp(0, 1)
    assert psnr(sharpened(source, edited), exact) > psnr(edited, exact) + 4


def test_new_content_stays_as_it_was_drawn():
    source = torch.full((64, 64, 3), 0.5)
    edited = source.clone()
    edited[20:44, 20:44] = torch.rand(24, 24, 3, generator=torch.Generator().manual_seed(0))
    assert psnr(sharpened(source, edited), edited) > 40


def test_what_nothing_changed_is_the_source():
    clip = torch.rand(2, 3, 40, 48, 3, generator=torch.Generator().manual_seed(0))
    edited = clip.clone()
    edited[..., :12, :12, :] = 1 - edited[..., :12, :12, :]
    result = sharpened(clip, edited)
    assert result.shape == clip.shape and torch.equal(result[..., 30:, 30:, :], clip[..., 30:, 30:, :])
    assert torch.equal(sharpened(clip, clip), clip)
