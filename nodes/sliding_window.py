"""InstructX Sliding Window: a video of any length, edited window by window (A.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.model_management as management
import comfy.utils
import torch
from comfy_api.latest import io

from . import sampling, text
from .connector import connect
from .fit import FRAME_RATE, plan
from .mllm_guidance import EMPTY, understand
from .pixels import Clip, to_clip, to_references, to_video
from .sockets import Connector, GuidanceValue, LoadedConnector, LoadedMllm, Mllm

if TYPE_CHECKING:
    from collections.abc import Callable

    from comfy.model_patcher import ModelPatcher
    from comfy_api.latest import Input

    from ..instructx_core.fit import Fit
    from ..instructx_core.windows import Window
    from .sampling import Settings


class InstructXSlidingWindow(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InstructXSlidingWindow",
            display_name="InstructX Sliding Window",
            category=text.VIDEO,
            description=(
                "Edit a video of any length: the edited end of each window takes the place of the next one's beginning."
            ),
            search_aliases=["instructx", "long video"],
            inputs=[
                io.Model.Input("model", tooltip="From InstructX Load Model or InstructX Load Adapter."),
                io.Vae.Input("vae", tooltip="From the same loader."),
                Mllm.Input("mllm", tooltip="From the same loader."),
                Connector.Input("connector", tooltip="From the same loader."),
                io.MultiType.Input("source", [io.Image, io.Video], tooltip="Any size, any length."),
                io.String.Input(
                    "instruction",
                    multiline=True,
                    default="make the red circle blue",
                    tooltip="What to change, in a sentence.",
                ),
                io.Int.Input(
                    "window",
                    default=0,
                    min=0,
                    max=1025,
                    tooltip="Frames edited in one go; 0 for as many as the model was trained at.",
                ),
                io.Int.Input(
                    "overlap",
                    default=1,
                    min=0,
                    max=64,
                    tooltip="Edited frames that a window hands to the next; 1 as in the paper.",
                ),
                *sampling.inputs(),
                io.Image.Input(
                    "reference",
                    optional=True,
                    tooltip="An image whose subject the instruction speaks of; a batch gives several.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="IMAGE", tooltip="The edited frames, at the source's size and length."),
                io.Video.Output(
                    display_name="VIDEO",
                    tooltip="The same with the source's frame rate and sound (16 frames a second for bare images).",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, instruction: str | None = None) -> bool | str:
        return EMPTY if isinstance(instruction, str) and not instruction.strip() else True

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        vae: Any,
        mllm: LoadedMllm,
        connector: LoadedConnector,
        source: torch.Tensor | Input.Video,
        instruction: str,
        window: int,
        overlap: int,
        seed: int,
        steps: int,
        cfg: float,
        shift: float,
        sampler_name: str,
        scheduler: str,
        denoise: float,
        reference: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        from ..instructx_core.windows import plan_windows
        from .source import check_vae
        from .wan import denoising, prepare

        patched = prepare(model)
        check_vae(patched, vae)
        clip = to_clip(source)
        windows = plan_windows(len(clip.frames), window or denoising(patched).config.default_frames, overlap)
        chosen = sampling.settings(patched, steps, cfg, shift, sampler_name, scheduler, denoise)
        loop = WindowLoop(patched, vae, mllm, connector, instruction, reference, seed, chosen)
        frames = loop.edit(clip, windows)
        return io.NodeOutput(frames, to_video(frames, clip.frame_rate or FRAME_RATE, clip.audio))


class WindowLoop:
    """One instruction over all windows of a video."""

    def __init__(
        self,
        model: ModelPatcher,
        vae: Any,
        mllm: LoadedMllm,
        connector: LoadedConnector,
        instruction: str,
        reference: torch.Tensor | None,
        seed: int,
        chosen: Settings,
    ) -> None:
        self.model = model
        self.vae = vae
        self.mllm = mllm
        self.connector = connector
        self.instruction = instruction
        self.reference = reference
        self.seed = seed
        self.chosen = chosen

    def edit(self, clip: Clip, windows: list[Window]) -> torch.Tensor:
        """The edited frames [T, H, W, 3] of the whole clip.

        The MLLM reads all windows before the DiT edits the first: each is brought onto the GPU once.
        """
        bar = comfy.utils.ProgressBar(len(windows) * (1 + self.chosen.steps))
        read = []
        for window in windows:
            read.append(self._read(clip, window))
            bar.update(1)
        edited = torch.empty_like(clip.frames)
        for index, (window, guidance) in enumerate(zip(windows, read, strict=True)):
            management.throw_exception_if_processing_interrupted()
            callback = self._callback(bar, len(windows) + index * self.chosen.steps)
            head = slice(window.start, window.start + window.head)  # the window before has already edited it
            frames = self._edit_window(clip, window, guidance, edited[head], callback)
            edited[head.stop : window.stop] = frames[window.head :]
        return edited

    def _fit(self, clip: Clip, window: Window) -> tuple[torch.Tensor, Fit]:
        """A window's frames, and how they lie in the model's."""
        own = clip.frames[window.start : window.stop]
        return own, plan(self.model, self.vae, Clip(own, clip.is_video), 0, 0).plan

    def _read(self, clip: Clip, window: Window) -> GuidanceValue:
        """What the MLLM understands of a window, in whose source what the instruction names is still to be seen."""
        own, fit = self._fit(clip, window)
        shown = fit.apply(own)[: fit.frames, : fit.inner[0], : fit.inner[1]]
        return understand(self.mllm, self.instruction, shown, to_references(self.reference), clip.is_video)

    def _edit_window(
        self, clip: Clip, window: Window, guidance: GuidanceValue, tail: torch.Tensor, callback: Callable[..., None]
    ) -> torch.Tensor:
        """One window's frames, edited; its head is already in `tail`."""
        from ..instructx_core.windows import replace_head
        from .reference import add_reference
        from .source import encode
        from .wan import with_source

        own, fit = self._fit(clip, window)
        raw = encode(self.vae, fit.apply(replace_head(own, tail)), self.model)
        positive, negative = (with_source(self.model, part, raw, 1.0) for part in connect(self.connector, guidance))
        model = self.model
        if self.reference is not None:
            model, positive, negative = add_reference(model, positive, negative, self.vae, self.reference)
        latent = sampling.sample(model, positive, negative, {"samples": raw}, self.seed, self.chosen, callback)
        decoded = self.vae.decode(latent["samples"])[0]
        return fit.restore(decoded.float().cpu())

    def _callback(self, bar: comfy.utils.ProgressBar, done: int) -> Callable[..., None]:
        """Previews as any sampler's, on a bar that counts the steps of all windows."""
        import latent_preview

        previewer = latent_preview.get_previewer(self.model.load_device, self.model.model.latent_format)

        def callback(step: int, x0: torch.Tensor, _x: torch.Tensor, _total: int) -> None:
            picture = previewer.decode_latent_to_preview_image("JPEG", x0) if previewer is not None else None
            bar.update_absolute(done + step + 1, bar.total, picture)

        return callback
