"""Several instructions for one clip: their tokens and masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F

from .connectors import Connector
from .context import LocalEdits
from .errors import InputError
from .guidance.guidance import Guidance
from .guidance.vision import MERGE
from .mask_head import MaskHead

NO_PLACES = "Several instructions at once work only on a clip; for an image, say everything in one sentence."


def check_places(name: str, masks: MaskHead | None, is_video: bool) -> None:
    """Raise InputError unless the model of this name has a mask head and the source is a clip."""
    if masks is None:
        raise InputError(
            f"{name} takes one instruction, not a list, because it cannot find where each applies; say everything in "
            "one sentence."
        )
    if not is_video:
        raise InputError(NO_PLACES)


@torch.no_grad()
def read_local(
    guidance: Guidance,
    connector: Connector,
    masks: MaskHead,
    each: Sequence[Sequence[str]],
    clips: Sequence[torch.Tensor],
    device: torch.device,
) -> LocalEdits:
    """Read K instructions for each of B clips in one pass, and find the mask of each.

    Args:
        each: for each of the B clips, K instructions.
        clips: B of [T, H, W, 3] in [0, 1], of the same size; the masks cover them.
        device: where the MLLM runs.

    Raises:
        InputError: a clip of one frame, or one too long along an axis for the masks.
    """
    if len(clips[0]) == 1:
        raise InputError(NO_PLACES)
    pairs = [(one, clip) for several, clip in zip(each, clips, strict=True) for one in several]
    inputs = guidance.prepare([one for one, _ in pairs], [clip for _, clip in pairs], None, True)
    read = guidance(replace(inputs, keeps_seen=True).to(device))
    own = next(masks.parameters())  # the connector is on the mask head's device, in the same dtype
    read = replace(read.to(own.dtype, own.device), seen=read.seen.to(own))
    tokens = connector(read).tokens  # [B * K, N, D]
    time, height, width = inputs.grids[0].tolist()
    found = masks(read.seen, (time, height // MERGE, width // MERGE), tokens)
    shape = (len(each), -1)
    size = tuple(clips[0].shape[:3])
    return LocalEdits(tokens.unflatten(0, shape), found.float().unflatten(0, shape), size)


def over_latents(local: LocalEdits, latents: tuple[int, int, int], strides: tuple[int, int]) -> LocalEdits:
    """Masks of a clip as masks of the canvas that it begins on; its border and repeated frames get the edge's values.

    Args:
        latents: (time, height, width) of the canvas's latents.
        strides: frames and pixels that a latent spans; the first in time spans one frame.
    """
    if local.size is None:
        return local
    (frames, height, width), (time, space) = local.size, strides
    spans = (1 + (frames - 1) / time, height / space, width / space)
    inner = tuple(max(1, round(span)) for span in spans)
    if inner == latents:  # the masks stay on their own grid
        return replace(local, size=None)
    masks = F.interpolate(local.masks, inner, mode="trilinear", align_corners=False)
    after, below, right = (whole - part for whole, part in zip(latents, inner, strict=True))
    return replace(local, masks=F.pad(masks, (0, right, 0, below, 0, after), mode="replicate"), size=None)
