"""Edit the windows of the library's loop over a long video with ComfyUI's MODEL and VAE."""

from __future__ import annotations

import copy
import hashlib
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import comfy.model_management as management
import comfyui_version
import torch

from ..instructx_core.config import GuidanceMode
from ..instructx_core.errors import EditInterrupted
from ..instructx_core.version import __version__
from . import sampling
from .conditioning import with_source
from .connector import connect
from .denoising import denoising
from .depth import outside
from .fit import lay
from .masks import for_frames, over_latent
from .mllm_guidance import understand
from .model_pair import second_of
from .pixels import to_references
from .reference import add_references
from .vae import check_vae, encode, strides
from .wan import prepare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from comfy.model_patcher import ModelPatcher

    from ..instructx_core.fit import Fit
    from ..instructx_core.long_video.window_model import Look
    from ..instructx_core.request import EditRequest
    from ..instructx_core.sampling import StepCallback
    from ..instructx_core.windows import Window
    from .conditioning import Conditioning
    from .each_window import EachWindow
    from .sampling import Settings
    from .sockets import GuidanceValue, LoadedConnector, LoadedMllm

    Parts = tuple[ModelPatcher, Any, LoadedMllm, LoadedConnector]  # MODEL, VAE, MLLM, connector


class NativeModel:
    """A `WindowModel` of the library; latents are raw, as in ComfyUI.

    The MLLM reads each window just before the DiT edits it. If both do not fit on the GPU, they are swapped for every
    window, which takes seconds where a window takes minutes.
    """

    def __init__(
        self,
        parts: Parts,
        request: EditRequest,
        chosen: Settings,
        graph: dict[str, str] | None = None,
        is_video: bool = True,
        anew: EachWindow | None = None,
        low: ModelPatcher | None = None,
    ) -> None:
        """
        Args:
            chosen: the request's sampling as ComfyUI's settings.
            graph: hashes of the nodes and settings that the four parts come from; None if unknown, so that no later
                edit is treated as the same.
            is_video: whether the MLLM sees the source as a video, even a single frame.
            anew: provides per-window inputs; None if there are none.
            low: the second of a pair of DiTs.

        Raises:
            InputError: not a Wan MODEL, a second MODEL of a different kind, or a VAE that does not match.
        """
        model, self.vae, self.mllm, self.connector = parts
        self.model = prepare(model)
        self.low = None if low is None else second_of(self.model, low)
        check_vae(self.model, self.vae)
        self.request = request
        self.chosen = chosen
        self.graph = graph or {"unknown": secrets.token_hex(16)}
        self.is_video = is_video
        self.outside: list[str] = []  # warning about what the model does not know, set when it reads the first window
        self.anew = anew
        self.mask: torch.Tensor | None = None
        self.window_mask: torch.Tensor | None = None  # mask of the current window, on its canvas
        own = strides(self.vae)
        config = denoising(self.model).config
        self.default_frames = config.default_frames
        self.takes_back_loss = config.keep_source > 0
        self.temporal_stride = own.time
        self.frame_multiple = own.frame_multiple
        self.read_frames = self.mllm.guidance.config.video_frames

    def fit(self, frames: int, size: tuple[int, int]) -> Fit:
        return lay(self.model, self.vae, frames, size)

    def at(self, window: Window, look: Look) -> NativeModel:
        if self.anew is None and self.mask is None:
            return self
        one = copy.copy(self)
        if self.mask is not None and len(self.mask) > 1:
            one.mask = self.mask[window.start : window.stop]
        if self.anew is not None:
            frames, turn = look()
            given = self.anew(frames, turn)
            if "mask" in given:
                one.mask = for_frames(given["mask"], len(frames), tuple(frames.shape[1:3]))[: len(window)]
            one.take(given)
        return one

    def take(self, given: dict[str, Any]) -> None:
        """Use the per-window inputs in `given`: a reference replaces the request's."""
        if "reference" in given:
            self.request = replace(self.request, references=tuple(to_references(given["reference"])))

    def within(self, mask: torch.Tensor) -> NativeModel:
        one = copy.copy(self)
        one.window_mask = mask
        return one

    def read(self, shown: Sequence[torch.Tensor]) -> GuidanceValue:
        (frames,), request = shown, self.request
        if not self.outside:  # the list is shared with the copies that `within` makes
            self.outside.append(outside(self.mllm, request.instruction, frames))
        both = self.needs_negative(bool(request.references))
        return understand(self.mllm, request.instruction, frames, list(request.references), self.is_video, both=both)

    def needs_negative(self, has_references: bool) -> bool:
        """Whether the run uses the guidance without the instruction."""
        models = [model for model in (self.model, self.low) if model is not None]
        return sampling.needs_negative(models, self.chosen, has_references)

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        return encode(self.vae, frames[0], self.model)

    def denoise(
        self,
        source: torch.Tensor,
        guidance: GuidanceValue,
        pinned: torch.Tensor | None,
        callback: StepCallback | None,
    ) -> torch.Tensor:
        model, positive, negative = self.conditions(source, guidance)

        def after_step(step: int, x0: torch.Tensor, _x: torch.Tensor, total: int) -> None:
            if callback is not None and callback(step + 1, total, x0) is False:
                raise EditInterrupted(f"The edit was stopped after step {step + 1} of {total}.")

        latent = {"samples": source}
        if self.window_mask is not None:
            own = strides(self.vae)
            latent["noise_mask"] = over_latent(self.window_mask, source.shape, own.space, own.time)
        if pinned is not None:
            latent = _held(latent, pinned)
        run = (latent, self.request.seed, self.chosen, after_step, self.low)
        return sampling.sample(model, positive, negative, *run)["samples"]

    def conditions(
        self, source: torch.Tensor, guidance: GuidanceValue
    ) -> tuple[ModelPatcher, Conditioning, Conditioning]:
        """MODEL, positive and negative for one window."""
        return self.carrying(source, *connect(self.connector, guidance))

    def carrying(
        self, source: torch.Tensor, *guidance: Conditioning
    ) -> tuple[ModelPatcher, Conditioning, Conditioning]:
        """MODEL and both conditionings, with the window's source and the request's references added."""
        positive, negative = (with_source(self.model, part, source, 1.0) for part in guidance)
        references = self.request.references
        if not references:
            return self.model, positive, negative
        return add_references(self.model, positive, negative, self.vae, references)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self.vae.decode(latents).float().cpu()

    def files(self) -> str:
        """A hash of the loaded parts' file stamps, which changes when a file is replaced."""
        return hashlib.sha256((self.mllm.files + self.connector.files).encode()).hexdigest()

    def identity(self) -> dict[str, Any]:
        from ..instructx_core.long_video.window_model import digest_frames

        request, chosen = self.request, self.chosen
        return {
            "instruction": request.instruction,
            "references": digest_frames(request.references),
            "model": self.graph,
            "files": self.files(),
            "device": management.get_torch_device().type,
            "versions": {
                "instructx": __version__,
                "torch": str(torch.__version__),
                "comfyui": comfyui_version.__version__,
            },
            "steps": chosen.steps,
            "shift": chosen.shift,
            "guidance_scale": chosen.cfg,
            "sampler": chosen.sampler,
            "scheduler": chosen.scheduler,
            "denoise": chosen.denoise,
            **({} if chosen.mode is GuidanceMode.V2V else {"guidance_mode": chosen.mode.value}),
            "seed": request.seed,
            **({} if self.mask is None else {"mask": digest_frames([self.mask])}),
            **({} if self.anew is None else {"nodes": self.anew.sha256}),
        }


def _held(latent: dict[str, torch.Tensor], pinned: torch.Tensor) -> dict[str, Any]:
    """A LATENT that begins with `pinned`, and a noise mask that holds it: ComfyUI noises what is masked out to each
    step's sigma with the run's noise, as the library's sampler does with pinned latents."""
    source, count = latent["samples"], pinned.shape[2]
    mask = latent["noise_mask"].clone() if "noise_mask" in latent else torch.ones(1, 1, *source.shape[2:])
    mask[:, :, :count] = 0
    return {"samples": torch.cat([pinned.to(source), source[:, :, count:]], dim=2), "noise_mask": mask}
