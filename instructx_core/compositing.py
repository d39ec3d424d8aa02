"""Where an edit changed a picture, and putting only that part into the source: bit-exact everywhere else.

Masks are float32 [T, H, W] in [0, 1]. All of it works on frames [T, H, W, 3] in [0, 1]; a mask of one frame serves all.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .errors import InputError
from .fit import Fit, resize


def changed_region(source: torch.Tensor, edited: torch.Tensor, threshold: float = 0.1, grow: int = 4) -> torch.Tensor:
    """Where `edited` differs from `source`: 1 there, 0 elsewhere.

    A VAE changes every pixel a little and single pixels a lot, so a change counts where it exceeds `threshold` and is
    wider than a speck (3 x 3 pixels); what is found then grows, to take in the soft edge around it.

    Args:
        source, edited: [T, H, W, 3] in [0, 1], the same shape.
        threshold: of the largest difference among the three channels, in (0, 1).
        grow: pixels by which the region is widened on all sides, >= 0.

    Returns:
        float32 [T, H, W] of zeros and ones.

    Raises:
        InputError: shapes that differ, or a threshold out of range.
    """
    check_same_shape(source, edited)
    if not 0 < threshold < 1:
        raise InputError(f"threshold is {threshold}; give a number above 0 and below 1.")
    difference = (edited[..., :3] - source[..., :3]).abs().amax(dim=-1)
    mask = (difference > threshold).float()
    return widen(narrow(mask, 1), 1 + grow)


def composite(source: torch.Tensor, edited: torch.Tensor, mask: torch.Tensor, feather: int = 0) -> torch.Tensor:
    """`edited` where the mask is 1, `source` to the last bit where it is 0.

    Args:
        source, edited: [T, H, W, 3], the same shape.
        mask: [T or 1, H, W] in [0, 1].
        feather: pixels over which the edit fades in, from the mask's edge inwards: nothing outside it is touched.

    Raises:
        InputError: shapes that do not fit together, or a negative feather.
    """
    check_same_shape(source, edited)
    if mask.shape[-2:] != source.shape[1:3] or len(mask) not in (1, len(source)):
        raise InputError(
            f"The mask is {len(mask)} x {mask.shape[-1]} x {mask.shape[-2]} (frames, width, height), the source "
            f"{len(source)} x {source.shape[2]} x {source.shape[1]}; give one of the source's size and length."
        )
    if feather < 0:
        raise InputError(f"feather is {feather}; give 0 or more pixels.")
    weight = inner_fade(mask.to(source), feather)[..., None]
    mixed = source + weight * (edited - source)
    return torch.where(weight <= 0, source, torch.where(weight >= 1, edited, mixed))


def restore_edit(
    fit: Fit, source: torch.Tensor, fitted: torch.Tensor, decoded: torch.Tensor, share: float
) -> torch.Tensor:
    """An edit at its source's own size and length, with the source's pixels where the two hardly differ.

    They are compared where the edit was made, on the model's canvas: a source that is larger than that loses its detail
    on the way there, which is no change that anybody asked for, and gets it back here wherever it was not edited.

    Args:
        fit: how the source lies in the model's frames.
        source: [frames, H, W, 3] in [0, 1].
        fitted: the same on the canvas, [padded_frames, *canvas, 3].
        decoded: [padded_frames, *canvas, 3], what the VAE made of the edit.
        share: see `edited_weight`; 0 takes every pixel of the edit.
    """
    edited = fit.restore(decoded)
    if not share:
        return edited
    weight = resize(edited_weight(fit.cut(fitted), fit.cut(decoded), share), fit.size)
    return torch.where(weight <= 0, source, torch.where(weight >= 1, edited, source + weight * (edited - source)))


def edited_weight(source: torch.Tensor, edited: torch.Tensor, share: float) -> torch.Tensor:
    """How much of each pixel is the edit's, [T, H, W, 1] in [0, 1]; both pictures [T, H, W, 3], one size and number.

    A VAE returns no pixel exactly, and an edit moves a little what it should leave alone. How strong an edit is, its
    own changes say: the RMS of all pixels' changes, each weighed by its power, so that the size of what is edited does
    not count. Pixels changed by less than half of `share` of it are the source's, those by more than `share` the
    edit's, and between the two one fades into the other. A faint edit of everything is strong by its own measure, and
    stays.
    """
    check_same_shape(source, edited)
    power = (edited - source).square().mean(dim=-1, keepdim=True)
    if not power.any():
        return torch.zeros_like(power)
    strength = (power.square().mean() / power.mean()).sqrt()
    return (2 * power.sqrt() / (share * strength) - 1).clamp(0, 1)


def inner_fade(mask: torch.Tensor, feather: int) -> torch.Tensor:
    """A mask [T, H, W] whose edge rises from 0 to 1 over `feather` pixels inside it; it stays 0 where it was 0.

    The mean over a box around each pixel of the mask shrunk by the box's reach: zero up to the old edge by itself.
    """
    if not feather:
        return mask
    reach = (feather + 1) // 2
    shrunk = narrow(mask, reach)
    side = 2 * reach + 1
    padded = F.pad(shrunk[:, None], (reach,) * 4, mode="replicate")
    return F.avg_pool2d(padded, side, stride=1)[:, 0] * (mask > 0)


def widen(mask: torch.Tensor, reach: int) -> torch.Tensor:
    """The greatest value within a square of `reach` pixels around each pixel of [T, H, W]."""
    return F.max_pool2d(mask[:, None], 2 * reach + 1, stride=1, padding=reach)[:, 0] if reach else mask


def narrow(mask: torch.Tensor, reach: int) -> torch.Tensor:
    """The least value within a square of `reach` pixels; what lies outside the picture does not count."""
    return -widen(-mask, reach)


def check_same_shape(source: torch.Tensor, edited: torch.Tensor) -> None:
    """Raise InputError unless both are frames of one size and number."""
    if source.shape != edited.shape:
        raise InputError(
            f"The source has {_words(source)}, the edited picture {_words(edited)}; "
            "bring the edited one back to the source's size and length first (InstructX Restore does)."
        )


def _words(frames: torch.Tensor) -> str:
    return f"{len(frames)} frames of {frames.shape[2]} x {frames.shape[1]} with {frames.shape[3]} channels"
