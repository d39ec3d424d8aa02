"""Detail transfer: an edit that was made on a small canvas, at its source's own size with the source's own detail.

What a model returns is as sharp as the canvas that it works on. Most edits leave nearly all of what the source shows
where it is, and only map its colours: the detail that the canvas could not hold can be taken from the source, through
the same map. Per window of the canvas (a square over three frames), the best affine map from source to edit is fitted
by ridge regression: the local linear model of the guided filter (He, Sun and Tang 2010), computed on the small picture
and applied to the large one (He and Sun 2015), here with full 3 x 3 matrices. The result is

    source + up(change) + up(gain) (source - up(small source))

with `change` the edit minus the small source and `gain` the map minus the identity. Where nothing changed both are
exactly zero, and so is the difference to the source. Where the map explains nothing (new content over a texture) its
gain is minus the identity: the source's detail goes, and the edit is as sharp as the canvas.

It fails where the edit moves things (detail stays at its old place), where a new thing has the colours of what was
there, and where what the canvas cannot hold should change by itself (text, grain): see docs/detail.md.
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
DOUBT = 0.02  # how much of the change's variance that the map leaves unexplained is added to the ridge
MOST = 2.0  # what inverting asks of a gain; more would be noise of the source made visible
STRIP = 2**16  # pixels that are worked on at a time
EDGE_RADIUS = 8  # of a window of `sharpened`: the tiny model's tokens are as wide
KNOWN, NEW = 0.02, 0.1  # share of a change's power that its map leaves: below, none of it is kept, above, all


def parse_detail(name: str) -> Detail:
    """Raises InputError for a name that is none."""
    try:
        return Detail(name)
    except ValueError as error:
        names = " or ".join(way.value for way in Detail)
        raise InputError(f"detail is {name!r}; give {names}.") from error


def sharpened(source: torch.Tensor, edited: torch.Tensor) -> torch.Tensor:
    """An edit of a model that draws softly, with its source's edges where it is a map of the source's colours.

    A recoloured shape, a new background or a new light is an affine map of colours in every window (see `gain`), here
    with its offset: the map has the source's edges, and what is left of the change is the model's blur. It goes where
    it is a small part of the change. New content, which no map explains, stays as it was drawn.

    Args:
        source, edited: [..., h, w, 3] in [0, 1], on the canvas.

    Returns:
        float32 [..., h, w, 3] in [0, 1]; exactly the source where windows change nothing.
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
    """How much more of a pixel's deviation from its surroundings the edit has than the source, around one frame.

    Args:
        source, change: [T, h, w, 3] on the canvas: the source in [0, 1], and the edit minus it.
        index: of the frame.

    Returns:
        [9, h, w]: row by row the matrix [output, input] of each pixel; exactly 0 where the window changes nothing.
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
    """One edited frame at its source's size.

    Args:
        frame: [H, W, 3], uint8 or float in [0, 1].
        small, change: [h, w, 3] on the canvas; see `gain`.
        gains: [9, h, w] of the frame.
        dtype: of the result: torch.float32 in [0, 1], or torch.uint8, rounded.

    Returns:
        [H, W, 3], which is exactly the frame wherever `change` and `gains` are 0 around it.
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
    """Of x and y [T, 3, h, w] in each window: means [3, h, w], covariances of x, and of y with x, [3, 3, h, w]."""
    mean_x, mean_y = _window_mean(x, radius), _window_mean(y, radius)
    covariance = _window_mean(torch.einsum("tihw,tjhw->tijhw", x, x).flatten(1, 2), radius).unflatten(0, (3, 3))
    cross = _window_mean(torch.einsum("tihw,tjhw->tijhw", y, x).flatten(1, 2), radius).unflatten(0, (3, 3))
    return mean_x, mean_y, covariance - mean_x[:, None] * mean_x[None], cross - mean_y[:, None] * mean_x[None]


def _window_mean(values: torch.Tensor, radius: int) -> torch.Tensor:
    """[T, C, h, w] -> [C, h, w]: means over all T and a square around each pixel; borders repeat."""
    return _blur(values.mean(0, keepdim=True), radius)[0]


def _blur(values: torch.Tensor, radius: int) -> torch.Tensor:
    """Box means of [1, C, h, w], one axis after the other."""
    side = 2 * radius + 1
    values = F.avg_pool2d(F.pad(values, (radius, radius, 0, 0), mode="replicate"), (1, side), stride=1)
    return F.avg_pool2d(F.pad(values, (0, 0, radius, radius), mode="replicate"), (side, 1), stride=1)


def _regressed(cross: torch.Tensor, covariance: torch.Tensor, ridge: torch.Tensor) -> torch.Tensor:
    """Matrices [3, 3, h, w] that give y from x best, of their covariances [3, 3, h, w] and a ridge [h, w]."""
    steady = covariance + ridge * torch.eye(3, device=cross.device)[:, :, None, None]
    return torch.einsum("oihw,ijhw->ojhw", cross, _inverse(steady)).clamp(-MOST, MOST)


def _inverse(m: torch.Tensor) -> torch.Tensor:
    """Inverses of symmetric positive matrices [3, 3, h, w], by their cofactors."""
    a, b, c, d, e, f = m[0, 0], m[0, 1], m[0, 2], m[1, 1], m[1, 2], m[2, 2]
    aa, bb, cc = d * f - e * e, c * e - b * f, b * e - c * d
    dd, ee, ff = a * f - c * c, b * c - a * e, a * d - b * b
    determinant = a * aa + b * bb + c * cc
    rows = [torch.stack(row) for row in ((aa, bb, cc), (bb, dd, ee), (cc, ee, ff))]
    return torch.stack(rows) / determinant.clamp(min=torch.finfo(m.dtype).tiny)


def _enlarge(values: torch.Tensor, height: int, width: int, top: int, bottom: int, mode: str) -> torch.Tensor:
    """Rows `top` to `bottom` of [C, h, w] brought to (height, width), as if it had been enlarged whole."""
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
    """For each of `large` places the pixels among `small` that it is made of, int64 [large, n], and their weights.

    Linear interpolation, or Keys' cubic with a of -1/2, the kernel of antialiased resizing; borders repeat.
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
