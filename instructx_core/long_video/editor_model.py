"""The library's Editor as a `WindowModel`: one request over all windows of a video."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..context import Context
from ..sampling import StepCallback, initial_noise, instruction_guidance, sample
from ..source import Source
from ..version import __version__
from .window_model import digest_frames

if TYPE_CHECKING:
    from ..editor import Editor, Settings
    from ..fit import Fit

SAMPLES = 256  # of a tensor: training moves them all, so a few tell; 14 billion parameters take a second, not minutes

Contexts = tuple[Context, Context | None]  # with the instruction, and without it where a guidance scale asks for it


@dataclass(frozen=True)
class Request:
    """What is asked for, checked, with the checkpoint's defaults filled in."""

    instruction: str
    references: tuple[Tensor, ...]  # float [H, W, 3] in [0, 1] each
    settings: Settings
    seed: int
    height: int | None
    width: int | None


class EditorModel:
    """See `WindowModel`. What all windows share is computed once."""

    def __init__(self, editor: Editor, request: Request) -> None:
        self.editor = editor
        self.request = request
        self.default_frames = editor.default_frames
        self.temporal_stride = editor.codec.temporal_stride
        self.frame_multiple = editor.codec.frame_multiple
        self.read_frames = editor.config.guidance.video_frames
        self._references: tuple[Tensor, ...] | None = None

    def fit(self, frames: int, size: tuple[int, int]) -> Fit:
        # of a source only its shape counts
        source = Source(torch.empty(frames, *size, 0), is_video=True)
        return self.editor.fit(source, self.request.height, self.request.width)

    def read(self, shown: Tensor) -> Contexts:
        request = self.request

        def context(instruction: str) -> Context:
            return self.editor.context([instruction], [shown], [request.references], True)

        return context(request.instruction), None if request.settings.guidance_scale == 1 else context("")

    def encode(self, frames: Tensor) -> Tensor:
        return self.editor.encode(frames[None])

    def denoise(
        self, source: Tensor, pinned: Tensor | None, guidance: Contexts, fit: Fit, callback: StepCallback | None
    ) -> Tensor:
        editor, chosen = self.editor, self.request.settings
        conditions = editor.denoiser.conditions(source, self._reference_latents(fit))
        return sample(
            editor.denoiser,
            initial_noise((1, *editor.latent_shape(fit)), self.request.seed).to(editor.device),
            instruction_guidance(chosen.guidance_scale, *guidance, conditions),
            chosen.steps,
            chosen.shift,
            callback,
            editor.config.sampling.sigma_min,
            None if pinned is None else pinned.to(editor.device),
        )

    def decode(self, latents: Tensor) -> Tensor:
        return self.editor.decode(latents)[0]

    def identity(self) -> dict[str, Any]:
        request, settings = self.request, self.request.settings
        return {
            "instruction": request.instruction,
            "references": digest_frames(request.references),
            "model": fingerprint(self.editor),
            "device": self.editor.device.type,
            "versions": {"instructx": __version__, "torch": torch.__version__},
            "steps": settings.steps,
            "shift": settings.shift,
            "guidance_scale": settings.guidance_scale,
            "seed": request.seed,
            "height": request.height,
            "width": request.width,
        }

    def _reference_latents(self, fit: Fit) -> tuple[Tensor, ...]:
        if self._references is None:  # all windows have the same canvas
            self._references = self.editor.reference_latents([self.request.references], fit)
        return self._references


def fingerprint(editor: Editor) -> str:
    """A hash of a loaded model: its config, and of every tensor the name, dtype, shape and evenly spread values."""
    digest = hashlib.sha256(editor.config.to_json().encode())
    for part in (editor.guidance, editor.connector, editor.denoiser, editor.codec):
        for name, value in part.state_dict().items():
            if isinstance(value, Tensor):  # quantised layers keep other things there too
                digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
                flat = value.detach().flatten()
                digest.update(flat[:: max(1, flat.numel() // SAMPLES)].float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
