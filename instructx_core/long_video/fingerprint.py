"""What makes the pixels of a long edit: two runs whose identities are equal may share windows."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import __version__
from .footage import Footage
from .options import LongOptions
from .window_editor import Request

if TYPE_CHECKING:
    from ..editor import Editor

SAMPLES = 256  # of a tensor: training moves them all, so a few tell; 14 billion parameters take a second, not minutes


def identity(editor: Editor, footage: Footage, request: Request, options: LongOptions) -> dict[str, Any]:
    """Everything that the edited pixels depend on, as JSON values under names that a person can read in a message."""
    settings = request.settings
    return {
        "source": footage.sha256,
        "instruction": request.instruction,
        "references": [_digest(image) for image in request.references],
        "model": fingerprint(editor),
        "device": editor.device.type,
        "versions": {"instructx": __version__, "torch": torch.__version__},
        "steps": settings.steps,
        "shift": settings.shift,
        "guidance_scale": settings.guidance_scale,
        "seed": request.seed,
        "height": request.height,
        "width": request.width,
        **options.as_plain(),
    }


def fingerprint(editor: Editor) -> str:
    """A hash of a loaded model: its config, and of every tensor the name, dtype, shape and evenly spread values."""
    digest = hashlib.sha256(editor.config.to_json().encode())
    for part in (editor.guidance, editor.connector, editor.denoiser, editor.codec):
        for name, value in part.state_dict().items():
            if isinstance(value, Tensor):  # quantised layers keep other things there too
                digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
                flat = value.detach().flatten()
                digest.update(_bytes(flat[:: max(1, flat.numel() // SAMPLES)]))
    return digest.hexdigest()


def _digest(values: Tensor) -> str:
    return hashlib.sha256(f"{list(values.shape)}".encode() + _bytes(values)).hexdigest()


def _bytes(values: Tensor) -> bytes:
    return values.float().cpu().contiguous().numpy().tobytes()
