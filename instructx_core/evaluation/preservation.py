"""How well an edit preserves the rest of the picture, measured on pixels without any network.

All frames are [T, H, W, 3], uint8 or float in [0, 1], and are taken one by one, so that a clip needs little memory
beyond its own pixels. The *region* is where an edit may change something: a given mask; else where the
exact target differs from the source; else where the edit itself changed something visibly. The last hides small damage
outside the edit by definition, so quote numbers with a mask or a target.

- `psnr`, `ssim`: of source and edit on all pixels outside the region.
- `exclusivity`: share of the total change (absolute, summed over pixels) that lies inside the region; 1 if the edit
  touched nothing else; a global change scores the region's share of the picture.
- `flicker`: how far frame-to-frame changes of pixels outside the region differ from those in the source.
- `smoothness`: 1 minus the mean distance of a frame from the mean of its neighbours, over the whole clip.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from ..compositing import as_mask, changed_region, check_same_size
from ..errors import InputError
from .metrics import UNEDITED_TOLERANCE, EditScore, as_floats, differing_pixels, edited_region, psnr, score_edit, ssim

INSIDE = 0.5  # threshold of a soft mask
SHOWN_GAIN = 4.0  # amplifies the changes in a difference picture, which would be too dark to see otherwise


@dataclass(frozen=True)
class Preservation:
    """The metrics of one edit; None if there is nothing to measure.

    Attributes:
        found: origin of the region: "mask", "target" or "edit".
        region: share of all pixels in the region, in [0, 1].
        psnr: dB, at most 100. None if the region is the whole picture.
        ssim: in [-1, 1]. None also if no window of 11 x 11 pixels has its centre outside the region.
        exclusivity: in [0, 1]. None if nothing changed at all.
        flicker: None below 2 frames, or if no pixel stays outside the region.
        smoothness, source_smoothness: None below 3 frames.
        edit: scores against the target, if one was given and it visibly differs from the source.
    """

    found: str
    region: float
    psnr: float | None
    ssim: float | None
    exclusivity: float | None
    flicker: float | None
    smoothness: float | None
    source_smoothness: float | None
    edit: EditScore | None

    def to_dict(self) -> dict[str, object]:
        """Everything as plain values, for JSON."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """The metrics as text, one per line."""
        yield f"region ({self.found}): {self.region:.1%} of the pixels"
        for name, value, unit in (
            ("PSNR outside", self.psnr, " dB"),
            ("SSIM outside", self.ssim, ""),
            ("exclusivity", self.exclusivity, ""),
            ("flicker outside", self.flicker, ""),
            ("smoothness", self.smoothness, ""),
            ("smoothness of the source", self.source_smoothness, ""),
        ):
            if value is not None:
                yield f"{name}: {value:.2f}{unit}" if unit else f"{name}: {value:.4f}"
        if self.edit is not None:
            yield f"way left to the target: {self.edit.remaining:.2f}"
            yield f"success: {'yes' if self.edit.success else 'no'}"


def measure(source: Tensor, edited: Tensor, mask: Tensor | None = None, target: Tensor | None = None) -> Preservation:
    """Measure what an edit preserves and, given an exact target, whether it succeeded.

    Args:
        source, edited, target: [T, H, W, 3], uint8 or float in [0, 1], of one size.
        mask: white where the edit may change something; [H, W] or [1 or T, H, W] in [0, 1]. Takes precedence over
            `target`.

    Raises:
        InputError: sizes differ, or the mask is invalid.
    """
    region, found = find_region(source, edited, mask, target)
    kept = ~region
    differs = target is not None and bool(edited_region(source, target).any())
    return Preservation(
        found=found,
        region=int(region.count_nonzero()) / region.numel(),
        psnr=psnr(edited, source, kept) if kept.any() else None,
        ssim=ssim(edited, source, kept),
        exclusivity=_exclusivity(source, edited, region),
        flicker=_added_flicker(source, edited, kept),
        smoothness=smoothness(edited),
        source_smoothness=smoothness(source),
        edit=score_edit(edited, target, source) if differs else None,
    )


def find_region(
    source: Tensor, edited: Tensor, mask: Tensor | None = None, target: Tensor | None = None
) -> tuple[Tensor, str]:
    """The region where the edit may change something, bool [T, H, W], and its origin: "mask", "target" or "edit".

    Raises InputError as `measure` does.
    """
    check_same_size(source, edited)
    if target is not None and target.shape != source.shape:
        raise InputError(
            f"The target is {list(target.shape)}, the source {list(source.shape)}; give one with the source's shape."
        )
    if mask is not None:
        mask = as_mask(mask)
        if mask.shape[1:] != source.shape[1:3] or len(mask) not in (1, len(source)):
            raise InputError(
                f"The mask is {len(mask)} x {mask.shape[2]} x {mask.shape[1]} (frames, width, height), the source "
                f"{len(source)} x {source.shape[2]} x {source.shape[1]}; give one with the source's size and length."
            )
        return (mask >= INSIDE).expand(source.shape[:3]), "mask"
    if target is not None:
        return differing_pixels(source, target, UNEDITED_TOLERANCE), "target"
    return changed_region(source, edited) > 0, "edit"


def _exclusivity(source: Tensor, edited: Tensor, region: Tensor) -> float | None:
    """The share of all change that lies inside the region; None if nothing changed."""
    inside = whole = 0.0
    for before, after, where in zip(source, edited, region, strict=True):
        change = (as_floats(after) - as_floats(before)).abs().mean(-1).double()
        inside, whole = inside + change[where].sum().item(), whole + change.sum().item()
    return inside / whole if whole else None


def _added_flicker(source: Tensor, edited: Tensor, kept: Tensor) -> float | None:
    """How far the edit's steps from frame to frame differ from the source's; None if no pixel is kept in two frames."""
    total, count = 0.0, 0
    for index in range(1, len(source)):
        own, original = (as_floats(clip[index]) - as_floats(clip[index - 1]) for clip in (edited, source))
        moved = (own - original).abs().mean(-1)[kept[index] & kept[index - 1]]
        total, count = total + moved.double().sum().item(), count + moved.numel()
    return total / count if count else None


def smoothness(frames: Tensor) -> float | None:
    """1 minus the mean absolute distance of inner frames from the mean of their neighbours; None below 3 frames."""
    if len(frames) < 3:
        return None
    distance = 0.0
    for before, frame, after in zip(frames, frames[1:], frames[2:], strict=False):
        between = (as_floats(after) + as_floats(before)) / 2
        distance += (as_floats(frame) - between).abs().double().mean().item()
    return 1 - distance / (len(frames) - 2)


def difference_picture(source: Tensor, edited: Tensor, region: Tensor) -> Tensor:
    """The changes over a dimmed grey source: green inside the region, red outside, amplified by `SHOWN_GAIN`.

    Args:
        source, edited: [T, H, W, 3], uint8 or float in [0, 1].
        region: bool [T, H, W].

    Returns:
        float32 [T, H, W, 3] in [0, 1].
    """
    check_same_size(source, edited)
    picture = torch.empty(*source.shape[:3], 3, device=source.device)
    for shown, before, after, inside in zip(picture, source, edited, region, strict=True):
        before = as_floats(before)
        change = ((as_floats(after) - before).abs().amax(-1) * SHOWN_GAIN).clamp(0, 1)
        ground = before.mean(-1) * 0.35 * (1 - change)
        colours = (change * ~inside, change * inside, torch.zeros_like(change))
        shown.copy_(ground[..., None] + torch.stack(colours, -1))
    return picture
