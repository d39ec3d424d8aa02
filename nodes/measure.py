"""InstructX Measure: what an edit changed, and what it preserved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io, ui

from . import categories
from .masks import for_frames
from .notes import show
from .pixels import rgb

if TYPE_CHECKING:
    import torch


class InstructXMeasure(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InstructXMeasure",
            display_name="InstructX Measure",
            category=categories.IMAGE,
            description=(
                "Measure what an edit changed and what it left alone: PSNR, SSIM, exclusivity, flicker; against a "
                "target also whether it succeeded. Needs no neural network."
            ),
            search_aliases=["instructx", "psnr", "ssim", "metrics", "compare images", "difference", "flicker"],
            inputs=[
                io.Image.Input("source", tooltip="The picture or clip that was edited."),
                io.Image.Input("edited", tooltip="The edit, at the source's size and length (InstructX Restore)."),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where the edit may change something. Not connected: where the target differs from the"
                    " source, or what the edit visibly changed.",
                ),
                io.Image.Input("target", optional=True, tooltip="The exact result, if it is known."),
            ],
            outputs=[
                io.String.Output(display_name="STRING", tooltip="The measures, one per line, for Preview as Text."),
                io.Image.Output(
                    display_name="IMAGE",
                    tooltip="Every change: green where the edit may change something, red elsewhere.",
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        source: torch.Tensor,
        edited: torch.Tensor,
        mask: torch.Tensor | None = None,
        target: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        from ..instructx_core.evaluation.preservation import difference_picture, find_region, measure

        source, edited = rgb(source, "source"), rgb(edited, "edited picture")
        target = None if target is None else rgb(target, "target")
        if mask is not None:
            mask = for_frames(mask.cpu(), len(source), tuple(source.shape[1:3]))
        text = "\n".join(measure(source, edited, mask, target).lines())
        region, _ = find_region(source, edited, mask, target)
        show(text)  # the front end displays a node's `ui` text only for Preview as Text
        return io.NodeOutput(text, difference_picture(source, edited, region), ui=ui.PreviewText(text))
