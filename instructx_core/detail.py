"""Detail transfer: bring an edit made on a small canvas to its source's size, with the source's detail.

A model's output is only as sharp as its canvas. Most edits leave the source's content in place and only map its
colours, so the detail that the canvas could not hold can be taken from the source, through the same map. Per window of
the canvas (a square over three frames), the best affine map from source to edit is fitted by ridge regression: the
local linear model of the guided filter (He, Sun and Tang 2010), computed on the small picture and applied to the large
one (He and Sun 2015), here with full 3 x 3 matrices. The result is

    source + up(change) + up(gain) (source - up(small source))

with `change` the edit minus the small source and `gain` the map minus the identity. Where nothing changed both are
exactly zero, and so is the difference from the source. Where the map explains nothing (new content over a texture) the
gain is minus the identity: the source's detail is removed, and the edit is as sharp as the canvas.

It fails where the edit moves things (the detail stays at the old place), where a new object has the colours of what was
there, and where the edit should change detail too fine for the canvas (text, grain): see docs/detail.md.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange

from .config import Detail
from .errors import InputError
from .images import to_floats, to_uint8

RADIUS = 4  # of a window, in pixels of the canvas
RIDGE = 1e-4  # of variances of colours in [0, 1]: a texture fainter than about .01 is left alone
DOUBT = 0.02  # share of the change's unexplained variance that is added to the ridge
MOST = 2.0  # magnitude of a gain that inverting colours needs; more would amplify the source's noise
STRIP = 2**16  # pixels processed at a time
EDGE_RADIUS = 8  # of a window in `sharpened`: about the width of the tiny model's tokens
KNOWN, NEW = 0.02, 0.1  # unexplained share of a change's power: up to KNOWN the rest is dropped, from NEW on kept


def parse_detail(name: str) -> Detail:
    """The `Detail` of a name. Raises InputError for an unknown one."""
    try:
        return Detail(name)
    except ValueError as error:
        names = " or ".join(way.value for way in Detail)
        raise InputError(f"detail is {name!r}; give {names}.") from error


def sharpened(source: torch.Tensor, edited: torch.Tensor) -> torch.Tensor:
    """Give a blurry edit its source's edges wherever it is a map of the source's colours.

    A recoloured shape, a new background or new lighting is an affine map of colours in every window (see `gain`, here
    with an offset). The mapped source has the source's edges, and the residual of the change is the model's blur: it is
    dropped where it is a small part of the change. New content, which no map explains, stays as it was drawn.

    Args:
        source, edited: [..., h, w, 3] in [0, 1], on the canvas.

    Returns:
        float32 [..., h, w, 3] in [0, 1]; exactly the source where the edit changes nothing.
    """
    frames, edits = (pixels.float().expand(edited.shape).reshape(-1, *edited.shape[-3:]) for pixels in (source, edited))
    return torch.stack([_sharpened(*pair) for pair in zip(frames, edits, strict=True)]).view(edited.shape)


def _sharpened(source: torch.Tensor, edited: torch.Tensor) -> torch.Tensor:
    """One frame [h, w, 3]."""
    x, y = (rearrange(pixels, "h w c -> c h w") for pixels in (source, edited - source))
    mean_x, mean_y, covariance, cross = _moments(x[None], y[None], EDGE_RADIUS)
    matrices = _regressed(cross, covariance, torch.full_like(x[0], RIDGE))
    offsets = mean_y - torch.einsum("oihw,ihw->ohw", matrices, mean_x)
    matrices = _blur(matrices.flatten(0, 1)[None], EDGE_RADIUS)[0].unflatten(0, (3, 3))
    mapped = torch.einsum("oihw,ihw->ohw", matrices, x) + _blur(offsets[None], EDGE_RADIUS)[0]
    rest = y - mapped
    left, whole = (_blur(change.square().sum(0)[None, None], EDGE_RADIUS)[0] for change in (rest, y))
    kept = ((left - KNOWN * whole) / ((NEW - KNOWN) * whole).clamp(min=1e-12)).clamp(0, 1)
    return rearrange((x + mapped + kept * rest).clamp(0, 1), "c h w -> h w c")


def gain(source: torch.Tensor, change: torch.Tensor, index: int) -> torch.Tensor:
    """The gain of each pixel of one frame: the local colour map from source to edit, minus the identity.

    Args:
        source, change: [T, h, w, 3] on the canvas: the source in [0, 1], and the edit minus the source.
        index: of the frame.

    Returns:
        [9, h, w]: each pixel's matrix [output, input], row by row; exactly 0 where nothing changes in the window.
    """
    near = slice(max(index - 1, 0), index + 2)
    x, y = (rearrange(frames[near].float(), "t h w c -> t c h w") for frames in (source, change))
    _, mean_y, covariance, cross = _moments(x, y, RADIUS)
    variance = _window_mean(y.square(), RADIUS) - mean_y.square()
    matrices = _regressed(cross, covariance, torch.full_like(variance[0], RIDGE))
    unexplained = (variance.sum(0) - (matrices * cross).sum((0, 1))).clamp(min=0)
    matrices = _regressed(cross, covariance, RIDGE + DOUBT * unexplained)
    return _blur(matrices.flatten(0, 1)[None], RADIUS)[0]


def carry(
    frame: torch.Tensor,
    small: torch.Tensor,
    change: torch.Tensor,
    gains: torch.Tensor,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """One edited frame at its source's size, with the source's detail.

    Args:
        frame: the source, [H, W, 3], uint8 or float in [0, 1].
        small, change: [h, w, 3] on the canvas; see `gain`.
        gains: [9, h, w] of the frame.
        dtype: of the result: torch.float32 in [0, 1], or torch.uint8, rounded.

    Returns:
        [H, W, 3]; exactly the source wherever `change` and `gains` are 0 nearby.
    """
    height, width = frame.shape[:2]
    result = torch.empty(frame.shape, dtype=dtype)
    smooth = torch.cat([rearrange(pixels.float(), "h w c -> c h w") for pixels in (change, small)])
    rows = max(1, STRIP // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels = rearrange(to_floats(frame[top:bottom]), "h w c -> c h w").float()
        both = _enlarge(smooth, height, width, top, bottom, "bicubic")
        matrices = _enlarge(gains, height, width, top, bottom, "bilinear").unflatten(0, (3, 3))
        shift = both[:3] + torch.einsum("oihw,ihw->ohw", matrices, pixels - both[3:])
        edited = rearrange((pixels + shift).clamp(0, 1), "c h w -> h w c")
        result[top:bottom] = to_uint8(edited) if dtype == torch.uint8 else edited
    return result


def _moments(x: torch.Tensor, y: torch.Tensor, radius: int) -> tuple[torch.Tensor, ...]:
    """Window moments of x and y [T, 3, h, w]: means [3, h, w], covariances of x, and of y with x, [3, 3, h, w]."""
    mean_x, mean_y = _window_mean(x, radius), _window_mean(y, radius)
    covariance = _window_mean(torch.einsum("tihw,tjhw->tijhw", x, x).flatten(1, 2), radius).unflatten(0, (3, 3))
    cross = _window_mean(torch.einsum("tihw,tjhw->tijhw", y, x).flatten(1, 2), radius).unflatten(0, (3, 3))
    return mean_x, mean_y, covariance - mean_x[:, None] * mean_x[None], cross - mean_y[:, None] * mean_x[None]


def _window_mean(values: torch.Tensor, radius: int) -> torch.Tensor:
    """[T, C, h, w] -> [C, h, w]: means over all T and a square around each pixel; borders are replicated."""
    return _blur(values.mean(0, keepdim=True), radius)[0]


def _blur(values: torch.Tensor, radius: int) -> torch.Tensor:
    """Box means of [1, C, h, w], one axis after the other."""
    side = 2 * radius + 1
    values = F.avg_pool2d(F.pad(values, (radius, radius, 0, 0), mode="replicate"), (1, side), stride=1)
    return F.avg_pool2d(F.pad(values, (0, 0, radius, radius), mode="replicate"), (side, 1), stride=1)


def _regressed(cross: torch.Tensor, covariance: torch.Tensor, ridge: torch.Tensor) -> torch.Tensor:
    """Ridge regression of y on x: matrices [3, 3, h, w] from their covariances [3, 3, h, w] and a ridge [h, w]."""
    steady = covariance + ridge * torch.eye(3, device=cross.device)[:, :, None, None]
    return torch.einsum("oihw,ijhw->ojhw", cross, _inverse(steady)).clamp(-MOST, MOST)


def _inverse(m: torch.Tensor) -> torch.Tensor:
    """Inverses of symmetric positive definite matrices [3, 3, h, w], by cofactors."""
    a, b, c, d, e, f = m[0, 0], m[0, 1], m[0, 2], m[1, 1], m[1, 2], m[2, 2]
    aa, bb, cc = d * f - e * e, c * e - b * f, b * e - c * d
    dd, ee, ff = a * f - c * c, b * c - a * e, a * d - b * b
    determinant = a * aa + b * bb + c * cc
    rows = [torch.stack(row) for row in ((aa, bb, cc), (bb, dd, ee), (cc, ee, ff))]
    return torch.stack(rows) / determinant.clamp(min=torch.finfo(m.dtype).tiny)


def _enlarge(values: torch.Tensor, height: int, width: int, top: int, bottom: int, mode: str) -> torch.Tensor:
    """Rows `top` to `bottom` of [C, h, w] enlarged to (height, width), identical to those of the whole enlargement."""
    taps, weights = _taps(values.shape[1], height, mode)
    taps, weights = taps[top:bottom], weights[top:bottom]
    first, last = int(taps.min()), int(taps.max()) + 1
    matrix = torch.zeros(bottom - top, last - first).scatter_add_(1, taps - first, weights)
    rows = torch.einsum("nh,chw->cnw", matrix.to(values), values[:, first:last])
    taps, weights = _taps(values.shape[2], width, mode)
    columns = rows[:, :, taps[:, 0]] * weights[:, 0].to(values)
    for tap in range(1, taps.shape[1]):
        columns.addcmul_(rows[:, :, taps[:, tap]], weights[:, tap].to(values))
    return columns


def _taps(small: int, large: int, mode: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The source pixels of each of `large` target pixels among `small`, int64 [large, n], and their weights.

    Linear interpolation, or Keys' cubic with a = -1/2, the kernel of antialiased resizing; borders are replicated.
    """
    at = (torch.arange(large, dtype=torch.float64) + 0.5) * (small / large) - 0.5
    begin = at.floor()
    t = at - begin
    if mode == "bilinear":
        offsets, weights = (0, 1), torch.stack([1 - t, t], 1)
    else:
        offsets = (-1, 0, 1, 2)
        weights = torch.stack(
            [
                ((-0.5 * t + 1) * t - 0.5) * t,
                (1.5 * t - 2.5) * t * t + 1,
                ((-1.5 * t + 2) * t + 0.5) * t,
                (0.5 * t - 0.5) * t * t,
            ],
            1,
        )
    taps = torch.stack([begin + offset for offset in offsets], 1).long().clamp(0, small - 1)
    return taps, weights.float()
