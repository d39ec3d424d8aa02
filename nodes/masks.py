"""Where an edit may happen: a MASK over a source's pixels, and the noise mask that keeps the rest while sampling."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..instructx_core.errors import InputError
from .notes import say
from .pixels import mask_of

FAINTEST = 1 / 255  # values above it are masked; resizing leaves traces below it
UNPAINTED = (64, 64)  # height and width of the all-zero mask that Load Image gives for a picture without alpha


def for_frames(mask: torch.Tensor, frames: int, size: tuple[int, int]) -> torch.Tensor:
    """A MASK of any rank as [1 or frames, height, width] in [0, 1]; several masks of one picture are merged.

    Raises:
        InputError: the mask's size or length does not match the frames, it is not a mask, or it was never painted.
    """
    mask = mask_of(mask)
    if frames == 1:
        mask = mask.amax(0, keepdim=True)  # segmenters return one mask per object of a picture
    check_painted(mask, size)
    if tuple(mask.shape[1:]) != tuple(size) or len(mask) not in (1, frames):
        raise InputError(
            f"The mask is {len(mask)} x {mask.shape[2]} x {mask.shape[1]} (frames, width, height), but the source is"
            f" {frames} x {size[1]} x {size[0]}; give a mask of the source's size, with one frame or as many as"
            " the source."
        )
    return mask


def over_latent(mask: torch.Tensor, shape: tuple[int, ...], space: int, time: int) -> torch.Tensor:
    """ComfyUI's noise mask [1, 1, t, h, w] for latents of `shape` [B, C, t, h, w]: 1 where the mask touches a latent.

    Args:
        mask: [1 or T, H, W] over the frames that the latents encode.
        space, time: pixels and frames per latent; the first latent frame covers one frame.

    Raises:
        InputError: the mask's frames do not match the latents, or it was never painted.
    """
    t, h, w = shape[2:]
    frames = 1 + (t - 1) * time
    check_painted(mask, (h * space, w * space))
    if tuple(mask.shape[1:]) != (h * space, w * space) or len(mask) not in (1, frames):
        raise InputError(
            f"The mask is {len(mask)} x {mask.shape[2]} x {mask.shape[1]} (frames, width, height), but the source"
            f" latent is {frames} x {w * space} x {h * space}; give a mask of that size, or connect the FIT of"
            " InstructX Fit and a mask of the picture that went into it."
        )
    touched = (F.max_pool2d(mask[:, None], space)[:, 0] > FAINTEST).float()
    if len(touched) > 1:
        later = touched[1:].unflatten(0, (t - 1, time)).amax(1)
        touched = torch.cat([touched[:1], later])
    return touched.expand(t, h, w)[None, None].contiguous()


def check_painted(mask: torch.Tensor, size: tuple[int, int]) -> None:
    """Raise InputError for Load Image's empty mask [..., 64, 64], unless the frames have that size."""
    if tuple(mask.shape[-2:]) == UNPAINTED != tuple(size) and not mask.any():
        raise InputError(
            "The mask is empty and 64 x 64, as Load Image gives it if nothing is painted; paint one (right click, "
            "Open in Mask Editor), or connect another."
        )


def warn_if_empty(mask: torch.Tensor) -> None:
    """Warn if a mask is empty, e.g. from a segmenter that found nothing."""
    if not (mask > FAINTEST).any():
        say("The mask is empty, so nothing is edited; choose another, or disconnect it.")
