"""InstructX Composite: the edit inside the changed region or a mask, the source bit for bit everywhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import comfy.model_management as management
import torch
from comfy_api.latest import io

from . import categories
from .masks import for_frames
from .pixels import checked

if TYPE_CHECKING:
    from collections.abc import Iterator


class InstructXComposite(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InstructXComposite",
            display_name="InstructX Composite",
            category=categories.IMAGE,
            description=(
                "Use the edit only where it changed something, or inside a mask. Everywhere else the "
                "source stays bit for bit."
            ),
            search_aliases=["instructx", "changed region", "difference mask", "inpaint", "mask", "segment"],
            inputs=[
                io.Image.Input(
                    "source", tooltip="The source of the edit. Its alpha stays wherever the edit is not used."
                ),
                io.Image.Input("edited", tooltip="The edit at the source's size and length, from InstructX Restore."),
                io.Int.Input(
                    "feather",
                    default=2,
                    min=0,
                    max=512,
                    tooltip="Pixels over which the edit fades in, from the mask's edge inwards.",
                ),
                io.Float.Input(
                    "threshold",
                    default=0.1,
                    min=0.005,
                    max=0.995,
                    step=0.005,
                    tooltip="Without a mask: how far a colour must change to count as edited.",
                ),
                io.Int.Input(
                    "grow",
                    default=4,
                    min=0,
                    max=512,
                    tooltip="Without a mask: pixels by which the changed region is widened.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where to use the edit. Not connected: wherever it changed something.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="IMAGE", tooltip="The source with the edit in place."),
                io.Mask.Output(
                    display_name="MASK",
                    tooltip="The mask in use, for inpainting, upscaling or segmenting there.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        source: torch.Tensor,
        edited: torch.Tensor,
        feather: int,
        threshold: float,
        grow: int,
        mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        from ..instructx_core.compositing import changed_region, check_same_size, composite, inner_fade

        source, edited = checked(source, "source"), checked(edited, "edited picture").to(source.device)
        check_same_size(source, edited)
        if mask is None:
            mask = torch.cat([changed_region(*pair, threshold, grow) for pair in _frames(source, edited)])
        else:
            mask = for_frames(mask, len(source), tuple(source.shape[1:3])).to(source.device)
        faded = torch.cat([inner_fade(frame, feather) for (frame,) in _frames(mask)])
        return io.NodeOutput(composite(source, edited, faded), mask)


def _frames(*clips: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Iterate over clips in parallel, one frame [1, ...] of each at a time, checking for Cancel before each frame."""
    for frames in zip(*clips, strict=True):
        management.throw_exception_if_processing_interrupted()
        yield tuple(frame[None] for frame in frames)
