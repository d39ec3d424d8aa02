"""Where an edit may happen: a MASK over a source's pixels, and what holds the rest of a latent while it is sampled."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..instructx_core.errors import InputError
from .notes import say
from .pixels import mask_of

FAINTEST = 1 / 255  # what counts as masked: resizing leaves traces below it
UNPAINTED = (64, 64)  # height and width of Load Image's mask of a picture without alpha; it is 0 everywhere


def for_frames(mask: torch.Tensor, frames: int, size: tuple[int, int]) -> torch.Tensor:
    """A MASK of any rank as [1 or frames, height, width] in [0, 1]; several of one picture become one.

    Raises:
        InputError: another size or number than these frames', or a mask that is none or that nobody painted.
    """
    mask = mask_of(mask)
    if frames == 1:
        mask = mask.amax(0, keepdim=True)  # several objects of one picture, as segmenters give them
    check_painted(mask, size)
    if tuple(mask.shape[1:]) != tuple(size) or len(mask) not in (1, frames):
        raise InputError(
            f"The mask is {len(mask)} x {mask.shape[2]} x {mask.shape[1]} (frames, width, height), but the source is"
            f" {frames} x {size[1]} x {size[0]}; give a mask of the source's size, with one frame or as many as it has."
        )
    return mask


def over_latent(mask: torch.Tensor, shape: tuple[int, ...], space: int, time: int) -> torch.Tensor:
    """ComfyUI's noise mask [1, 1, t, h, w] for latents of `shape` [B, C, t, h, w]: 1 where the mask touches a latent.

    Args:
        mask: [1 or T, H, W] over the frames that the latents were made of.
        space, time: pixels and frames of a latent; the first latent frame is of one frame.

    Raises:
        InputError: a mask of other frames than the latents', or that nobody painted.
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
    """Raise InputError for Load Image's mask [..., 64, 64] where nobody painted one, unless frames have its size."""
    if tuple(mask.shape[-2:]) == UNPAINTED != tuple(size) and not mask.any():
        raise InputError(
            "The mask is empty and 64 x 64, as Load Image gives it where nothing is painted; paint one (right click, "
            "Open in Mask Editor), or connect another."
        )


def warn_if_empty(mask: torch.Tensor) -> None:
    """Say it where a mask lets nothing be edited, as one of a segmenter that found nothing."""
    if not (mask > FAINTEST).any():
        say("The mask is empty, so nothing is edited; choose another, or disconnect it.")
