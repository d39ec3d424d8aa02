"""The library's Editor as a `WindowModel`: one request for all windows of a video."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..config import GuidanceMode
from ..guidance_modes import scales_source
from ..loaded_model import LoadedModel
from ..request import EditRequest
from ..requested_edit import RequestedEdit
from ..version import __version__
from ..windows import Window
from .window_model import Look, digest_frames

SAMPLES = 256  # per tensor: training changes all values, so a few suffice; 14B parameters take a second, not minutes


class EditorModel(RequestedEdit):
    """See `WindowModel`."""

    mask = None

    def __init__(self, model: LoadedModel, request: EditRequest) -> None:
        super().__init__(model, [request], is_video=True)
        self.default_frames = model.default_frames
        self.temporal_stride = model.codec.temporal_stride
        self.frame_multiple = model.codec.frame_multiple
        self.read_frames = model.config.guidance.video_frames

    def at(self, window: Window, look: Look) -> EditorModel:
        """The same request for every window."""
        return self

    def identity(self) -> dict[str, Any]:
        (request,), sampling, vae = self.requests, self.sampling, self.model.codec.vae
        height, width = request.size or (None, None)
        return {
            "instruction": list(request.each) or request.instruction,
            "references": digest_frames(request.references),
            "model": fingerprint(self.model),
            "dtype": str(vae.dtype).removeprefix("torch."),
            **({"vae": "tiled"} if vae.use_tiling else {}),
            "device": self.model.device.type,
            **self.model.shortcuts,
            "versions": {"instructx": __version__, "torch": torch.__version__},
            "steps": sampling.steps,
            "shift": sampling.shift,
            "guidance_scale": sampling.guidance_scale,
            **({} if self.mode is GuidanceMode.V2V else {"guidance_mode": self.mode.value}),
            **({"source_scale": sampling.source_scale} if scales_source(self.mode) else {}),
            **({"renoise": list(request.sampling.renoise)} if request.sampling.renoise else {}),
            "seed": request.seed,
            "height": height,
            "width": width,
        }


def fingerprint(model: LoadedModel) -> str:
    """Hash a loaded model: its config, and each tensor's name, dtype, shape and evenly spaced values."""
    digest = hashlib.sha256(model.config.to_json().encode())
    for piece in tensor_samples(model):
        digest.update(piece)
    return digest.hexdigest()


def tensor_samples(model: LoadedModel) -> Iterator[bytes]:
    """Each tensor's name, dtype, shape and evenly spaced values."""
    masks = () if model.masks is None else (model.masks,)
    for part in (model.guidance, model.connector, model.denoiser, model.codec, *masks):
        for name, value in part.state_dict().items():
            if isinstance(value, Tensor):  # quantised layers also keep other objects there
                yield f"{name} {value.dtype} {list(value.shape)}".encode()
                flat = value.detach().flatten()
                yield flat[:: max(1, flat.numel() // SAMPLES)].float().cpu().contiguous().numpy().tobytes()
