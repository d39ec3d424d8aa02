"""Find where an edit changed a picture, and composite only that part onto the source, bit-exact everywhere else.

Masks are float32 [T, H, W] in [0, 1], frames [T, H, W, 3] in [0, 1]; a mask of one frame applies to all frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F

from .config import Detail
from .detail import carry, gain
from .errors import InputError
from .fit import Fit, resized_columns
from .images import check_range, to_floats, to_uint8

LARGEST = 0.1  # RMS change over a pixel's channels from which on the VAE's loss is no longer undone
FAINTEST = 0.09  # RMS of changes; with a share of .2, pixels changed by less than 2.3 / 255 are always the source's


def changed_region(source: torch.Tensor, edited: torch.Tensor, threshold: float = 0.1, grow: int = 4) -> torch.Tensor:
    """Where `edited` differs from `source`: 1 there, 0 elsewhere.

    A VAE changes every pixel a little and single pixels a lot, so a change counts only if it exceeds `threshold` and
    is at least 3 x 3 pixels large; the region is then grown to include its soft edge.

    Args:
        source, edited: [T, H, W, 3], uint8 or float in [0, 1], of the same size; with a fourth channel (alpha) they are
            compared on white.
        threshold: for the largest difference among the three channels, in (0, 1).
        grow: pixels by which the region is widened on all sides, >= 0.

    Returns:
        float32 [T, H, W] of zeros and ones.

    Raises:
        InputError: sizes that differ, or a threshold out of range.
    """
    check_same_size(source, edited)
    if not 0 < threshold < 1:
        raise InputError(f"threshold is {threshold}; give a number above 0 and below 1.")
    mask = torch.empty(source.shape[:3], device=source.device)
    for index, whole in enumerate(mask):
        after, before = (_on_white(to_floats(frames[index])) for frames in (edited, source))
        difference = (after - before).abs().amax(dim=-1)
        whole.copy_(widen(narrow((difference > threshold).float()[None], 1), 1 + grow)[0])
    return mask


def composite(source: torch.Tensor, edited: torch.Tensor, mask: torch.Tensor, feather: int = 0) -> torch.Tensor:
    """`edited` where the mask is 1, exactly `source` where it is 0.

    Args:
        source, edited: [T, H, W, 3], of the same size; either may have a fourth channel, alpha. Without alpha a picture
            is opaque; if only the edit has alpha, it is composited on white.
        mask: in [0, 1], as `as_mask` takes it.
        feather: pixels over which the edit fades in, from the mask's edge inwards; nothing outside it is changed.

    Returns:
        [T, H, W, channels of the source].

    Raises:
        InputError: shapes that do not match, an invalid mask, or a negative feather.
    """
    check_same_size(source, edited)
    mask = as_mask(mask)
    if mask.shape[-2:] != source.shape[1:3] or len(mask) not in (1, len(source)):
        raise InputError(
            f"The mask is {len(mask)} x {mask.shape[-1]} x {mask.shape[-2]} (frames, width, height), the source "
            f"{len(source)} x {source.shape[2]} x {source.shape[1]}; give a mask of the source's size and length."
        )
    if feather < 0:
        raise InputError(f"feather is {feather}; give 0 or more pixels.")
    kind = torch.result_type(source, edited)
    result = torch.empty(source.shape, dtype=kind, device=source.device)
    for index, whole in enumerate(result):  # frame by frame: a long clip needs little memory beyond the result
        if not index or len(mask) > 1:
            weight = inner_fade(mask[index, None].to(result), feather)[0, ..., None]
        whole.copy_(_composited(source[index], edited[index], weight))
    return result


def _composited(source: torch.Tensor, edited: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """One frame [H, W, 3 or 4]; the weight is [H, W, 1]."""
    if source.shape[-1] == 3:
        edited = _on_white(edited)
        mixed = source + weight * (edited - source)
    else:
        edited = edited if edited.shape[-1] == 4 else torch.cat([edited, torch.ones_like(edited[..., :1])], dim=-1)
        mixed = _mix_with_alpha(source, edited, weight)
    return torch.where(weight <= 0, source, torch.where(weight >= 1, edited, mixed))


def as_mask(mask: torch.Tensor, name: str = "mask") -> torch.Tensor:
    """Convert a mask of two, three or four dimensions to float [T, H, W] in [0, 1].

    Args:
        mask: [H, W], [T, H, W], [T, 1, H, W] or [T, H, W, 1], floats in [0, 1] or booleans.
        name: what error messages call it.

    Raises:
        InputError: another shape or type, or values outside [0, 1] (including NaN).
    """
    shape = list(mask.shape)
    if mask.ndim == 4 and 1 in (mask.shape[1], mask.shape[3]):
        mask = mask[:, 0] if mask.shape[1] == 1 else mask[..., 0]
    elif mask.ndim == 2:
        mask = mask[None]
    if mask.ndim != 3 or 0 in shape:
        raise InputError(f"The {name} has the shape {shape}; give [frames, height, width], with one channel.")
    if not (mask.is_floating_point() or mask.dtype == torch.bool):
        kind = str(mask.dtype).removeprefix("torch.")
        raise InputError(f"The {name} has the type {kind}; give floats in [0, 1], or booleans.")
    return check_range(mask.float(), name)


def on_canvas(mask: torch.Tensor, fit: Fit) -> torch.Tensor:
    """Fit a mask [1 or T, H, W] of the source to the canvas: [1 or padded_frames, *canvas]."""
    whole = fit.apply(mask[..., None].expand(-1, -1, -1, 3))[..., 0]
    return whole[: 1 if len(mask) == 1 else fit.padded_frames]


def _mix_with_alpha(source: torch.Tensor, edited: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mix two pictures with straight alpha; each colour is weighted by its alpha."""
    alpha = source[..., 3:] * (1 - weight) + edited[..., 3:] * weight
    light = source[..., :3] * source[..., 3:] * (1 - weight) + edited[..., :3] * edited[..., 3:] * weight
    return torch.cat([light / alpha.clamp(min=1e-6), alpha], dim=-1)


def _on_white(frames: torch.Tensor) -> torch.Tensor:
    """[..., 3 or 4] -> [..., 3]."""
    return frames if frames.shape[-1] == 3 else frames[..., :3] * frames[..., 3:] + (1 - frames[..., 3:])


def without_loss(source: torch.Tensor, coded: torch.Tensor, edited: torch.Tensor) -> torch.Tensor:
    """Remove from an edit what the VAE alone does to its source.

    A VAE reproduces no pixel exactly, and its loss looks like an edit. Where the edit equals the VAE's reconstruction
    of the source, the result is the source. The more a pixel changes, the less of the loss is undone, so that nothing
    the edit removed shows through.

    Args:
        source: [..., 3] in [0, 1], what was encoded.
        coded: the source, encoded and decoded by the VAE.
        edited: the decoded edit.

    Returns:
        [..., 3] in [0, 1].
    """
    change = (edited - coded).square().mean(dim=-1, keepdim=True).sqrt()
    return (edited + (1 - change / LARGEST).clamp(min=0) * (source - coded)).clamp(0, 1)


def restore_edit(
    fit: Fit,
    source: torch.Tensor,
    fitted: torch.Tensor,
    decoded: torch.Tensor,
    share: float,
    detail: Detail = Detail.SOURCE,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """All of `restored_frames` as one tensor [frames, H, W, 3], in its source's size and length."""
    frames = restored_frames(fit, source, fitted, decoded, share, detail, dtype)
    if len(source) == 1:
        return next(frames)[None]
    restored = torch.empty(source.shape, dtype=dtype)
    for whole, frame in zip(restored, frames, strict=True):
        whole.copy_(frame)
    return restored


def restored_frames(
    fit: Fit,
    source: Iterable[torch.Tensor],
    fitted: torch.Tensor,
    decoded: torch.Tensor,
    share: float,
    detail: Detail = Detail.SOURCE,
    dtype: torch.dtype = torch.float32,
) -> Iterator[torch.Tensor]:
    """An edit's frames at their source's size, one by one, with the source's pixels where the two hardly differ.

    The two are compared on the model's canvas, where the edit was made. A source larger than the canvas loses detail
    there; it gets this detail back wherever it was not edited. Where it was, `detail` decides whose detail is used.
    Little memory beyond the frame is needed, because it is computed in strips.

    Args:
        fit: how the source fits the model's frames.
        source: frames [H, W, 3], uint8 or float in [0, 1].
        fitted: the source on the canvas, [padded_frames, *canvas, 3] in [0, 1].
        decoded: the decoded edit, [padded_frames, *canvas, 3].
        share: see `edited_weight`; 0 takes every pixel of the edit.
        detail: the source's, through the edit's own colour map (`detail.carry`), or the model's, resized.
        dtype: of the result: torch.float32 in [0, 1], or torch.uint8, rounded.
    """
    small, edited = fit.cut(fitted).float(), fit.cut(decoded).float()  # squares of half floats vanish
    weight = edited_weight(small, edited, share) if share else None
    if detail is Detail.SOURCE and fit.shrinks:
        change = edited - small if weight is None else weight * (edited - small)
        for index, frame in enumerate(source):
            yield carry(frame, small[index], change[index], gain(small, change, index), dtype)
        return
    both = edited if weight is None else torch.cat([edited, weight], dim=-1)
    for index, frame in enumerate(source):
        restored = torch.empty(frame.shape, dtype=dtype)
        for columns, part in resized_columns(both[index], fit.size):
            large = part[..., :3]
            if weight is not None:
                large = _mixed(to_floats(frame[:, columns]), large, part[..., 3:])
            restored[:, columns] = to_uint8(large) if dtype == torch.uint8 else large
        yield restored


def _mixed(source: torch.Tensor, edited: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """`edited` where the weight is 1, exactly `source` where it is 0, interpolated in between."""
    return torch.where(weight <= 0, source, torch.where(weight >= 1, edited, source + weight * (edited - source)))


def edited_weight(source: torch.Tensor, edited: torch.Tensor, share: float) -> torch.Tensor:
    """The edit's weight in each pixel, [T, H, W, 1] in [0, 1]; both inputs are [T, H, W, 3] of the same shape.

    A VAE reproduces no pixel exactly, and an edit slightly changes what it should leave alone. So changes are compared
    with the edit's strength: the RMS change over all pixels, each weighted by its power, which makes it independent of
    the size of the edited region. Pixels changed by less than half of `share` times the strength are the source's,
    those changed by more than `share` times it the edit's, with a linear ramp in between. A faint edit of the whole
    picture is thus kept; but the strength is at least `FAINTEST`, which removes the changes that a model makes to a
    picture it should leave alone.
    """
    check_same_shape(source, edited)
    power = (edited - source).square().mean(dim=-1, keepdim=True)
    if not power.any():
        return torch.zeros_like(power)
    strength = (power.square().mean() / power.mean()).sqrt().clamp(min=FAINTEST)
    return (2 * power.sqrt() / (share * strength) - 1).clamp(0, 1)


def inner_fade(mask: torch.Tensor, feather: int) -> torch.Tensor:
    """Make the edge of a mask [T, H, W] rise from 0 to 1 over `feather` pixels inside it; it stays 0 where it was 0.

    The mask is shrunk by the radius of a box blur and then blurred, which leaves zero up to the old edge.
    """
    if not feather:
        return mask
    reach = (feather + 1) // 2
    shrunk = narrow(mask, reach)
    side = 2 * reach + 1
    padded = F.pad(shrunk[:, None], (reach,) * 4, mode="replicate")
    return F.avg_pool2d(F.avg_pool2d(padded, (1, side), stride=1), (side, 1), stride=1)[:, 0] * (mask > 0)


def widen(mask: torch.Tensor, reach: int) -> torch.Tensor:
    """The maximum within a square of radius `reach` pixels around each pixel of [T, H, W]."""
    side = 2 * reach + 1
    rows = F.max_pool2d(mask[:, None], (1, side), stride=1, padding=(0, reach))  # rows, then columns: the square's
    return F.max_pool2d(rows, (side, 1), stride=1, padding=(reach, 0))[:, 0]


def narrow(mask: torch.Tensor, reach: int) -> torch.Tensor:
    """The minimum within a square of radius `reach` pixels; positions outside the picture are ignored."""
    return -widen(-mask, reach)


def check_same_size(source: torch.Tensor, edited: torch.Tensor) -> None:
    """Raise InputError unless both have the same size and number of frames, with three or four channels each."""
    if any(one.ndim != 4 or one.shape[3] not in (3, 4) for one in (source, edited)):
        shapes = f"{list(source.shape)} and {list(edited.shape)}"
        raise InputError(f"The source and the edited picture have the shapes {shapes}; give frames [T, H, W, 3].")
    check_same_shape(source[..., :3], edited[..., :3])


def check_same_shape(source: torch.Tensor, edited: torch.Tensor) -> None:
    """Raise InputError unless both have the same shape."""
    if source.shape != edited.shape:
        raise InputError(
            f"The source has {_words(source)}, the edited picture {_words(edited)}; "
            "bring the edited one back to the source's size and length first (InstructX Restore does)."
        )


def _words(frames: torch.Tensor) -> str:
    return f"{len(frames)} frames of {frames.shape[2]} x {frames.shape[1]} with {frames.shape[3]} channels"
