"""What an edit left alone, on frames made by hand; SSIM beside torchmetrics'."""

from pathlib import Path

import pytest
import torch

from instructx_core.errors import InputError
from instructx_core.evaluation import difference_picture, find_region, measure, smoothness
from instructx_core.evaluation.metrics import ssim
from instructx_core.images import to_floats, to_uint8
from support.peak_memory import bytes_taken


def noise(length: int = 1, side: int = 32, seed: int = 0) -> torch.Tensor:
    return torch.rand(length, side, side, 3, generator=torch.Generator().manual_seed(seed))


def edit_of(source: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """An edit that paints the upper left quarter, and its mask."""
    edited, mask = source.clone(), torch.zeros(source.shape[1:3])
    mask[:16, :16] = 1
    edited[:, :16, :16] = 1 - source[:, :16, :16]
    return edited, mask


@pytest.mark.parametrize("length", [1, 3])
def test_an_edit_inside_its_mask_leaves_all_else(length):
    source = noise(length)
    edited, mask = edit_of(source)
    found = measure(source, edited, mask)
    assert (found.found, found.region, found.psnr, found.exclusivity) == ("mask", 0.25, 100, 1)
    assert found.ssim is not None and found.ssim > 0.75  # windows at the region's edge see it
    assert (found.flicker == 0) if length > 1 else (found.flicker is None)


def test_damage_outside_is_seen_with_a_mask_or_a_target():
    source = noise()
    target, mask = edit_of(source)
    edited = target.clone()
    edited[:, 16:] = (edited[:, 16:] + 0.04).clamp(0, 1)
    masked, exact = measure(source, edited, mask), measure(source, edited, target=target)
    assert masked.psnr == exact.psnr == pytest.approx(29.7, abs=0.5)
    assert masked.exclusivity == pytest.approx(0.125 / (0.125 + 0.02), abs=0.01)
    assert exact.edit is not None and exact.edit.success and masked.edit is None
    found = measure(source, edited)  # knows neither: 0.04 is below what counts as edited
    assert found.found == "edit" and found.psnr == pytest.approx(masked.psnr, abs=1.5)


def test_a_global_change_is_as_exclusive_as_its_region_is_large():
    source = torch.full((1, 32, 32, 3), 0.5)
    mask = torch.zeros(32, 32)
    mask[:8] = 1
    assert measure(source, source + 0.1, mask).exclusivity == pytest.approx(0.25)


def test_nothing_changed_and_everything_masked():
    source = noise()
    same = measure(source, source, torch.ones(32, 32))
    assert same.exclusivity is None and same.psnr is None and same.ssim is None and same.region == 1


def test_flicker_is_beyond_the_source_s_own():
    source = noise(4)
    mask = torch.zeros(32, 32)
    assert measure(source, (source * 0.5 + 0.25), mask).flicker > 0
    steady = source * 0.5
    assert measure(steady, steady + 0.1, mask).flicker == pytest.approx(0, abs=1e-6)
    flickering = steady.clone()
    flickering[::2] += 0.1
    assert measure(steady, flickering, mask).flicker == pytest.approx(0.1, abs=1e-5)


def test_smoothness():
    ramp = torch.linspace(0, 1, 5)[:, None, None, None].expand(5, 8, 8, 3)
    assert smoothness(ramp) == pytest.approx(1)
    assert smoothness(torch.stack([torch.zeros(8, 8, 3), torch.ones(8, 8, 3)] * 2)) == pytest.approx(0)
    assert smoothness(ramp[:2]) is None


@pytest.mark.parametrize("shape", [(8, 8), (2, 32, 32), (32, 32, 2)])
def test_masks_of_other_shapes_are_refused(shape):
    with pytest.raises(InputError, match="mask"):
        measure(noise(3), noise(3), torch.zeros(shape))


def test_sizes_that_differ_are_refused():
    with pytest.raises(InputError, match="the edited picture 1 frames of 16 x 16"):
        measure(noise(), noise(side=16))
    with pytest.raises(InputError, match="^The target is"):
        measure(noise(), noise(), target=noise(side=16))


def test_difference_is_green_where_allowed_and_red_elsewhere():
    source = torch.full((1, 4, 4, 3), 0.5)
    edited = source.clone()
    edited[0, 0, 0], edited[0, 3, 3] = 0.9, 0.9
    region = torch.zeros(1, 4, 4, dtype=torch.bool)
    region[0, 0, 0] = True
    picture = difference_picture(source, edited, region)
    torch.testing.assert_close(picture[0, 0, 0], torch.tensor([0.0, 1, 0]))
    torch.testing.assert_close(picture[0, 3, 3], torch.tensor([1.0, 0, 0]))
    torch.testing.assert_close(picture[0, 1, 1], torch.full((3,), 0.175))


@pytest.mark.parametrize("given", ["mask", "target", "edit"])
def test_pixels_of_8_bits_measure_as_floats_do(given: str):
    source = to_uint8(noise(4))
    edited, mask = edit_of(to_floats(source))
    target, edited = to_uint8(edited), to_uint8(edited * 0.97)
    asked = {"mask": {"mask": mask}, "target": {"target": target}, "edit": {}}[given]
    clips, region = (source, edited), mask.bool().expand(4, -1, -1)
    floats = [to_floats(clip) for clip in clips]
    found = measure(*floats, **(asked | {"target": to_floats(target)} if given == "target" else asked))
    assert measure(*clips, **asked) == found and found.psnr is not None and found.flicker is not None
    assert torch.equal(difference_picture(*clips, region), difference_picture(*floats, region))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux' counters of memory")
def test_a_clip_takes_few_bytes_per_pixel():
    source = torch.randint(0, 256, (1, 192, 256, 3), dtype=torch.uint8).repeat(90, 1, 1, 1)
    edited = source.clone()
    edited[:, :80] = 255 - edited[:, :80]
    region, _ = find_region(source[:9], edited[:9])  # libraries start
    whole, pixels = region[:1].expand(90, -1, -1), source[..., 0].numel()
    assert bytes_taken(lambda: measure(source, edited)) <= 24 * pixels
    assert bytes_taken(lambda: difference_picture(source, edited, whole)) <= 24 * pixels


def test_the_region_of_a_target_is_every_pixel_that_differs():
    source = noise()
    target, mask = edit_of(source)
    region, found = find_region(source, source, target=target)
    assert found == "target" and region.sum() > 0.95 * mask.sum() and not (region & (mask == 0)).any()


def test_ssim_is_torchmetrics_ssim():
    image = pytest.importorskip("torchmetrics.functional.image", reason="NOT COMPARED: install the extra `metrics`")
    one = noise(2)
    other = (one + 0.2 * noise(2, seed=1)).clamp(0, 1)
    planes = [frames.permute(0, 3, 1, 2) for frames in (one, other)]
    theirs, places = image.structural_similarity_index_measure(
        *planes, data_range=1.0, gaussian_kernel=True, sigma=1.5, kernel_size=11, return_full_image=True
    )
    inner = places[:, :, 5:-5, 5:-5]  # theirs pads its borders
    assert ssim(one, other) == pytest.approx(inner.mean().item(), abs=1e-4)
    mask = torch.zeros(2, 32, 32, dtype=torch.bool)
    mask[:, 8:20, 6:25] = True
    assert ssim(one, other, mask) == pytest.approx(places.mean(1)[mask].mean().item(), abs=1e-4)
    assert float(theirs) < 1
