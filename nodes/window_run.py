"""Edit the windows of the library's loop over a long video with the nodes between Window Open and Window Close.

The library decodes, joins, stores and encodes in a separate thread (inner_nodes.py).
"""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

import comfy.model_management as management
import comfy.utils
import comfyui_version
import latent_preview
import torch
from comfy_execution.graph_utils import ExecutionBlocker

from ..instructx_core.errors import InputError
from .footage import footage_of
from .inner_nodes import where
from .notes import MADE_BEFORE, clock, other_seed, say, show
from .window_open import output_folder

if TYPE_CHECKING:
    from pathlib import Path

    from ..instructx_core.long_video import LongProgress, Turn
    from .inner_nodes import InnerNodes


def edit_by_nodes(inner: InnerNodes) -> Path:
    """Edit a video with the nodes of a loop that Window Close ends, and return the finished file.

    Raises:
        InputError: an input cannot be used, or a node failed in a window.
    """
    from ..instructx_core.long_video import FrameEdit, edit_footage, identity
    from ..instructx_core.long_video.cuts import check_cuts, with_cuts
    from ..instructx_core.long_video.unfinished import drop_abandoned, kept_by_seed

    flow = inner.flow
    check_cuts(flow.options)
    folder = output_folder(flow.folder)
    folder.mkdir(parents=True, exist_ok=True)

    def function(frames: torch.Tensor, turn: Turn) -> torch.Tensor:
        return _image(inner(frames, turn)["image"], turn)

    edit = FrameEdit(
        function,
        {
            "nodes": inner.sha256,
            "comfyui": comfyui_version.__version__,
            "device": management.get_torch_device().type,
        },
        frame_multiple=flow.frame_multiple,
        seed=flow.seed,
        hold_all=flow.hold_all,
    )
    with footage_of(flow.source) as footage:
        options = with_cuts(flow.options, footage)
        known = identity(edit, footage, options)
        name = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:24]
        output = folder / f"{name}.mp4"
        if inner.settled and output.is_file():
            show(MADE_BEFORE)
            return output
        drop_abandoned(folder, keep=output)
        for seed, count in kept_by_seed(folder, known).items():
            say(other_seed(seed, count))
        watcher = _Watcher()
        edit_footage(edit, footage, output, options, resume=True, callback=watcher.step, finished=watcher.window)
    return output


def _image(given: list[Any], turn: Turn) -> torch.Tensor:
    """The edited frames of a window; those of a list or of a batch of clips are concatenated.

    Raises:
        InputError: there are none, or their sizes differ.
    """
    if not given or any(isinstance(image, ExecutionBlocker) for image in given):
        raise InputError(f"{where(turn)}: a node inside blocked the image; every window needs one.")
    if len(given) == 1 and getattr(given[0], "ndim", 0) <= 4:
        return given[0]
    clips = [image.flatten(0, -4)[..., :3] for image in given]  # video VAEs may give batches of clips
    sizes = sorted({f"{clip.shape[2]} x {clip.shape[1]}" for clip in clips})
    if len(sizes) > 1:
        raise InputError(f"{where(turn)}: a list of images of {' and '.join(sizes)}; all must have the same size.")
    return torch.cat(clips)


class _Watcher:
    """Window Close's progress over all windows: a bar, each window's last frame, and the remaining time."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.bar = comfy.utils.ProgressBar(1)
        self.windows = 1
        self.reused = 0  # windows from an earlier run

    def step(self, at: LongProgress) -> None:
        self.windows, self.reused = at.windows, at.reused

    def window(self, number: int, frames: torch.Tensor) -> None:
        from PIL import Image

        picture = Image.fromarray(frames[-1].numpy())
        self.bar.update_absolute(number, self.windows, ("JPEG", picture, latent_preview.MAX_PREVIEW_RESOLUTION))
        left = (time.monotonic() - self.began) / (number - self.reused) * (self.windows - number)
        show(f"window {number} of {self.windows}, {clock(left)} left")
