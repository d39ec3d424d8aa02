"""Where an edit changed a picture, and putting only that part into the source: bit-exact everywhere else.

Masks are float32 [T, H, W] in [0, 1]. All of it works on frames [T, H, W, 3] in [0, 1]; a mask of one frame serves all.
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

LARGEST = 0.1  # RMS of a change over a pixel's channels: from here on nothing of the VAE's loss is given back
FAINTEST = 0.09  # RMS of changes; with a share of .2 pixels changed by less than 2.3 / 255 are always the source's


def changed_region(source: torch.Tensor, edited: torch.Tensor, threshold: float = 0.1, grow: int = 4) -> torch.Tensor:
    """Where `edited` differs from `source`: 1 there, 0 elsewhere.

    A VAE changes every pixel a little and single pixels a lot, so a change counts where it exceeds `threshold` and is
    wider than a speck (3 x 3 pixels); what is found then grows, to take in the soft edge around it.

    Args:
        source, edited: [T, H, W, 3] in [0, 1], of one size; a fourth channel (alpha) is seen on white.
        threshold: of the largest difference among the three channels, in (0, 1).
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
        difference = (_on_white(edited[index]) - _on_white(source[index])).abs().amax(dim=-1)
        whole.copy_(widen(narrow((difference > threshold).float()[None], 1), 1 + grow)[0])
    return mask


def composite(source: torch.Tensor, edited: torch.Tensor, mask: torch.Tensor, feather: int = 0) -> torch.Tensor:
    """`edited` where the mask is 1, `source` to the last bit where it is 0.

    Args:
        source, edited: [T, H, W, 3], of one size; either may have a fourth channel, alpha. Without one a picture is
            opaque, and an edit with alpha of a source without is put on white.
        mask: in [0, 1], as `as_mask` takes it.
        feather: pixels over which the edit fades in, from the mask's edge inwards: nothing outside it is touched.

    Returns:
        [T, H, W, channels of the source].

    Raises:
        InputError: shapes that do not fit together, a mask that is none, or a negative feather.
    """
    check_same_size(source, edited)
    mask = as_mask(mask)
    if mask.shape[-2:] != source.shape[1:3] or len(mask) not in (1, len(source)):
        raise InputError(
            f"The mask is {len(mask)} x {mask.shape[-1]} x {mask.shape[-2]} (frames, width, height), the source "
            f"{len(source)} x {source.shape[2]} x {source.shape[1]}; give one of the source's size and length."
        )
    if feather < 0:
        raise InputError(f"feather is {feather}; give 0 or more pixels.")
    kind = torch.result_type(source, edited)
    result = torch.empty(source.shape, dtype=kind, device=source.device)
    for index, whole in enumerate(result):  # one by one: a long clip takes little beside its result
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
    """A mask of two, three or four dimensions as float [T, H, W] in [0, 1].

    Args:
        mask: [H, W], [T, H, W], [T, 1, H, W] or [T, H, W, 1], floats in [0, 1] or booleans.
        name: what error messages call it.

    Raises:
        InputError: another shape or type, or numbers that are not in [0, 1] (NaN among them).
    """
    shape = list(mask.shape)
    if mask.ndim == 4 and 1 in (mask.shape[1], mask.shape[3]):
        mask = mask[:, 0] if mask.shape[1] == 1 else mask[..., 0]
    elif mask.ndim == 2:
        mask = mask[None]
    if mask.ndim != 3 or 0 in shape:
        raise InputError(f"The {name} has the shape {shape}; give one of [frames, height, width], of one channel.")
    if not (mask.is_floating_point() or mask.dtype == torch.bool):
        kind = str(mask.dtype).removeprefix("torch.")
        raise InputError(f"The {name} is of {kind}; give floats in [0, 1], or booleans.")
    return check_range(mask.float(), name)


def on_canvas(mask: torch.Tensor, fit: Fit) -> torch.Tensor:
    """A mask [1 or T, H, W] of a fit's source as [1 or padded_frames, *canvas]."""
    whole = fit.apply(mask[..., None].expand(-1, -1, -1, 3))[..., 0]
    return whole[: 1 if len(mask) == 1 else fit.padded_frames]


def _mix_with_alpha(source: torch.Tensor, edited: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Two pictures with straight alpha, mixed as light: a colour counts as far as it is seen."""
    alpha = source[..., 3:] * (1 - weight) + edited[..., 3:] * weight
    light = source[..., :3] * source[..., 3:] * (1 - weight) + edited[..., :3] * edited[..., 3:] * weight
    return torch.cat([light / alpha.clamp(min=1e-6), alpha], dim=-1)


def _on_white(frames: torch.Tensor) -> torch.Tensor:
    """[..., 3 or 4] -> [..., 3]."""
    return frames if frames.shape[-1] == 3 else frames[..., :3] * frames[..., 3:] + (1 - frames[..., 3:])


def without_loss(source: torch.Tensor, coded: torch.Tensor, edited: torch.Tensor) -> torch.Tensor:
    """An edit without what the VAE alone does to its source.

    A VAE returns no pixel exactly, and what it loses looks like an edit. Where the edit equals the VAE's own version of
    the source, the result is the source. The more a pixel changes, the less of the loss is given back: nothing of what
    was removed shines through.

    Args:
        source: [..., 3] in [0, 1], what was encoded.
        coded: what the VAE makes of it.
        edited: what it makes of the edit.

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
    """An edit at its source's own size and length: all of `restored_frames`, as [frames, H, W, 3]."""
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
    """An edit's frames at their source's own size, one by one, with the source's pixels where the two hardly differ.

    They are compared where the edit was made, on the model's canvas: a source that is larger than that loses its detail
    on the way there, which nobody asked for, and gets it back here wherever it was not edited. Where
    it was, `detail` says whose detail it has. Beside the frame little memory is needed: it is made in strips.

    Args:
        fit: how the source fits the model's frames.
        source: frames [H, W, 3], uint8 or float in [0, 1].
        fitted: the same on the canvas, [padded_frames, *canvas, 3] in [0, 1].
        decoded: [padded_frames, *canvas, 3], what the VAE made of the edit.
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
    """`edited` where the weight is 1, `source` to the last bit where it is 0, and between them in between."""
    return torch.where(weight <= 0, source, torch.where(weight >= 1, edited, source + weight * (edited - source)))


def edited_weight(source: torch.Tensor, edited: torch.Tensor, share: float) -> torch.Tensor:
    """How much of each pixel is the edit's, [T, H, W, 1] in [0, 1]; both pictures [T, H, W, 3], one size and number.

    A VAE returns no pixel exactly, and an edit moves a little what it should leave alone. How strong an edit is, its
    own changes say: the RMS of all pixels' changes, each weighed by its power, so that the size of what is edited does
    not count. Pixels changed by less than half of `share` of it are the source's, those by more than `share` the
    edit's, and between the two one fades into the other. A faint edit of everything is strong by its own measure, and
    stays; but no edit counts as fainter than `FAINTEST`, so that what a model adds to a picture that it was to leave
    alone goes.
    """
    check_same_shape(source, edited)
    power = (edited - source).square().mean(dim=-1, keepdim=True)
    if not power.any():
        return torch.zeros_like(power)
    strength = (power.square().mean() / power.mean()).sqrt().clamp(min=FAINTEST)
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
    return F.avg_pool2d(F.avg_pool2d(padded, (1, side), stride=1), (side, 1), stride=1)[:, 0] * (mask > 0)


def widen(mask: torch.Tensor, reach: int) -> torch.Tensor:
    """The greatest value within a square of `reach` pixels around each pixel of [T, H, W]."""
    side = 2 * reach + 1
    rows = F.max_pool2d(mask[:, None], (1, side), stride=1, padding=(0, reach))  # by rows, then columns: as a square
    return F.max_pool2d(rows, (side, 1), stride=1, padding=(reach, 0))[:, 0]


def narrow(mask: torch.Tensor, reach: int) -> torch.Tensor:
    """The least value within a square of `reach` pixels; places outside the picture do not count."""
    return -widen(-mask, reach)


def check_same_size(source: torch.Tensor, edited: torch.Tensor) -> None:
    """Raise InputError unless both are frames of one size and number, of three or four channels each."""
    if any(one.ndim != 4 or one.shape[3] not in (3, 4) for one in (source, edited)):
        shapes = f"{list(source.shape)} and {list(edited.shape)}"
        raise InputError(f"The source and the edited picture have the shapes {shapes}; give frames [T, H, W, 3].")
    check_same_shape(source[..., :3], edited[..., :3])


def check_same_shape(source: torch.Tensor, edited: torch.Tensor) -> None:
    """Raise InputError unless both are frames of one size and number."""
    if source.shape != edited.shape:
        raise InputError(
            f"The source has {_words(source)}, the edited picture {_words(edited)}; "
            "bring the edited one back to the source's size and length first (InstructX Restore does)."
        )


def _words(frames: torch.Tensor) -> str:
    return f"{len(frames)} frames of {frames.shape[2]} x {frames.shape[1]} with {frames.shape[3]} channels"
