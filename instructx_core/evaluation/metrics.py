"""Metrics of an edit whose exact target is known: pure functions on frames [T, H, W, 3], uint8 or float in [0, 1].

- The *edited region* is every pixel where the target differs from the source by more than 0.1 in any channel.
- An edit *succeeds* when, inside the region, the mean absolute error is less than half the mean absolute change from
  source to target, and outside it the output keeps at least 24 dB PSNR to the target. Copying the source leaves the
  whole change undone, so it never succeeds; repainting the whole frame fails outside the region.
- A new object has the right *shape* when the pixels that show its colour rather than what is behind it overlap those
  of the target with an IoU of at least 0.7.
- *Flicker* is the change of unedited pixels from frame to frame.
- A sentence that asks for nothing leaves a picture *alone* when at most 1 % of the pixels change by more than 2 / 255.
- *Unedited pixels* are those that the edit leaves exactly as they were. They are compared with the VAE's own
  reconstruction, because no latent model can return them better than that.
- *Memory*: `psnr`, `edited_region`, `score_edit` and `ssim` work frame by frame, so that a clip needs little beyond its
  own pixels.

The thresholds define the numbers in the model card; they are not settings.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..images import strips, to_floats

EDITED_THRESHOLD = 0.1
REMAINING_LIMIT = 0.5
OUTSIDE_PSNR_DB = 24.0
UNEDITED_TOLERANCE = 0.5 / 255  # below one step of an 8-bit file: the same pixel
SHAPE_IOU = 0.7
SSIM_WINDOW = 11
VISIBLE = 2 / 255
ALONE_SHARE = 0.01
PSNR_CEILING_DB = 100.0  # identical pixels would give infinity, and so would any mean that includes them


@dataclass(frozen=True)
class EditScore:
    """The scores of one edit.

    Attributes:
        success: both conditions hold.
        remaining: mean absolute error in the edited region as a share of the requested change, >= 0; 1 for an
            untouched source.
        outside_psnr: dB against the target outside the edited region; None when the region covers everything.
    """

    success: bool
    remaining: float
    outside_psnr: float | None


@dataclass(frozen=True)
class UneditedScore:
    """PSNR to the source on the unedited pixels of one edit, in dB.

    Attributes:
        output: of the model's output.
        reconstruction: of the VAE's reconstruction of the source.
    """

    output: float
    reconstruction: float

    @property
    def gap(self) -> float:
        """dB that editing lost on top of the VAE; negative when the output is closer to the source."""
        return self.reconstruction - self.output


def psnr(output: Tensor, target: Tensor, mask: Tensor | None = None) -> float:
    """Peak signal-to-noise ratio in dB for a peak of 1, at most 100.

    Args:
        output, target: [..., 3] of one shape, uint8 or float in [0, 1].
        mask: bool [...], the pixels that count; None means all.

    Raises:
        InputError: shapes differ, or the mask selects no pixel.
    """
    _same_shape(output=output, target=target)
    total, count = 0.0, 0
    for part in _parts(output):
        squared = (as_floats(output[part]) - as_floats(target[part])).square().mean(dim=-1)
        if mask is not None:
            squared = squared[mask[part]]
        total, count = total + squared.double().sum().item(), count + squared.numel()
    if not count:
        raise InputError("PSNR needs at least one pixel, and the mask selects none; give a mask that selects some.")
    error = total / count
    return PSNR_CEILING_DB if error == 0 else min(-10 * math.log10(error), PSNR_CEILING_DB)


def edited_region(source: Tensor, target: Tensor) -> Tensor:
    """Pixels that the edit visibly changes: bool [T, H, W] for source and target [T, H, W, 3].

    Raises:
        InputError: shapes differ.
    """
    _same_shape(source=source, target=target)
    return differing_pixels(source, target, EDITED_THRESHOLD)


def differing_pixels(one: Tensor, other: Tensor, threshold: float) -> Tensor:
    """Where frames [T, H, W, 3] of one shape differ by more than `threshold` in any channel: bool [T, H, W]."""
    found = torch.empty(one.shape[:-1], dtype=torch.bool, device=one.device)
    for part in _parts(one):
        found[part] = ((as_floats(other[part]) - as_floats(one[part])).abs() > threshold).any(dim=-1)
    return found


def score_edit(output: Tensor, target: Tensor, source: Tensor) -> EditScore:
    """Score one edit by the module's definition of success; all three [T, H, W, 3].

    Raises:
        InputError: shapes differ, or the target does not visibly differ from the source.
    """
    _same_shape(output=output, target=target)
    region = edited_region(source, target)
    if not region.any():
        raise InputError(
            "target: it does not differ from the source by more than 0.1 anywhere; give a pair with a visible edit."
        )
    left = asked = 0.0  # sums over the region
    for part in _parts(output):
        exact, where = as_floats(target[part]), region[part]
        left += (as_floats(output[part]) - exact).abs()[where].double().sum().item()
        asked += (exact - as_floats(source[part])).abs()[where].double().sum().item()
    outside = None if region.all() else psnr(output, target, ~region)
    # NaN in the output fails both comparisons, as it should.
    success = left < REMAINING_LIMIT * asked and (outside is None or outside >= OUTSIDE_PSNR_DB)
    return EditScore(success=success, remaining=left / asked, outside_psnr=outside)


def score_unedited(output: Tensor, reconstruction: Tensor, source: Tensor, target: Tensor) -> UneditedScore | None:
    """Compare output and VAE reconstruction of the source on the unedited pixels; all four [T, H, W, 3] in [0, 1].

    Pixels that the edit changes only a little (anti-aliased rims, near-grey in a grayscale edit) are neither edited nor
    unedited: compared with the source, they would penalise a perfect edit.

    Returns:
        None when the edit leaves no pixel as it was.

    Raises:
        InputError: shapes differ.
    """
    _same_shape(output=output, reconstruction=reconstruction, source=source, target=target)
    unedited = ((target.float() - source.float()).abs() <= UNEDITED_TOLERANCE).all(dim=-1)
    if not unedited.any():
        return None
    return UneditedScore(output=psnr(output, source, unedited), reconstruction=psnr(reconstruction, source, unedited))


def ssim(one: Tensor, other: Tensor, mask: Tensor | None = None) -> float | None:
    """Structural similarity (Wang et al. 2004) of frames [T, H, W, 3], averaged over channels and positions.

    The window is a Gaussian of deviation 1.5 over 11 pixels; only positions where it fits inside the frame count. Our
    own code, because the extra `metrics` may be missing; `tests/unit/test_preservation.py` checks it against
    torchmetrics.

    Args:
        mask: bool [T, H, W], the window centres that count; None means all.

    Returns:
        None if no position counts.

    Raises:
        InputError: shapes differ.
    """
    _same_shape(one=one, other=other)
    reach = SSIM_WINDOW // 2
    if min(one.shape[1:3]) < SSIM_WINDOW:
        return None
    at = torch.arange(-float(reach), reach + 1)
    kernel = torch.exp(-(at**2) / (2 * 1.5**2))
    kernel = (kernel / kernel.sum())[None, None]
    total, count = 0.0, 0
    for index in range(len(one)):
        places = _similarity(one[index], other[index], kernel)
        if mask is not None:
            places = places[mask[index, reach:-reach, reach:-reach]]
        total, count = total + places.double().sum().item(), count + places.numel()
    return total / count if count else None


def _similarity(one: Tensor, other: Tensor, kernel: Tensor) -> Tensor:
    """Local SSIM of two frames [H, W, 3], the mean over channels: [H - 10, W - 10]."""
    x, y = (as_floats(frame).permute(2, 0, 1)[:, None] for frame in (one, other))

    def local(values: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(values, kernel[..., None]), kernel[:, :, None])

    mean_x, mean_y = local(x), local(y)
    var_x, var_y, both = local(x * x) - mean_x**2, local(y * y) - mean_y**2, local(x * y) - mean_x * mean_y
    top = (2 * mean_x * mean_y + 0.01**2) * (2 * both + 0.03**2)
    return (top / ((mean_x**2 + mean_y**2 + 0.01**2) * (var_x + var_y + 0.03**2)))[:, 0].mean(0)


def shape_iou(output: Tensor, target: Tensor, behind: Tensor, mask: Tensor) -> float:
    """IoU of a new object's shape in the output with that in the target, in [0, 1].

    Pixels around the object where the background has nearly its colour (another object's, say) are ignored.

    Args:
        output, target: [T, H, W, 3] in [0, 1].
        behind: the target without the object.
        mask: bool [T, H, W], where the target shows the object.

    Raises:
        InputError: shapes differ.
    """
    _same_shape(output=output, target=target, behind=behind)
    colour = target[mask].mean(0)
    shown = (output - colour).square().sum(-1) < (output - behind).square().sum(-1)
    shown &= ((behind - colour).abs() > EDITED_THRESHOLD).any(-1) | mask
    either = (shown | mask).sum().item()
    return (shown & mask).sum().item() / either if either else 0.0


def flicker(frames: Tensor, source: Tensor, target: Tensor) -> tuple[float, float]:
    """Mean absolute difference of neighbouring frames on unedited pixels: of `frames`, and of the target.

    All three are [T, H, W, 3].

    Raises:
        InputError: shapes differ.
    """
    _same_shape(frames=frames, source=source, target=target)
    still = ((target.float() - source.float()).abs() <= UNEDITED_TOLERANCE).all(dim=-1)
    still = still[1:] & still[:-1]
    if not still.any():
        return 0.0, 0.0
    own, exact = ((clip[1:] - clip[:-1]).abs().mean(-1)[still].mean().item() for clip in (frames, target))
    return own, exact


def changed_share(output: Tensor, source: Tensor) -> float:
    """Share of pixels that changed visibly, by more than 2 / 255 in any channel; [T, H, W, 3] each.

    Raises:
        InputError: shapes differ.
    """
    _same_shape(output=output, source=source)
    return ((output - source).abs().amax(-1) > VISIBLE + 1e-6).float().mean().item()


def quantize(frames: Tensor) -> Tensor:
    """Round frames as an 8-bit file would: the same shape, float32 multiples of 1/255 in [0, 1]."""
    return torch.round(frames.float().clamp(0, 1) * 255) / 255


def as_floats(frames: Tensor) -> Tensor:
    """uint8, or float of any width -> float32 in [0, 1]."""
    return to_floats(frames).float()


def _parts(frames: Tensor) -> Iterator[slice]:
    """Cut frames [T, H, W, 3] into single ones, or into several small ones."""
    return strips(len(frames), frames[:1].numel())


def _same_shape(**frames: Tensor) -> None:
    (first_name, first), *others = frames.items()
    for name, value in others:
        if value.shape != first.shape:
            shapes = f"{list(value.shape)} differs from {list(first.shape)} of {first_name}"
            raise InputError(f"{name}: its shape {shapes}; make them equal.")
