"""InstructX Example Input: something to edit and what to say, so that a graph runs without a file of one's own."""

from __future__ import annotations

from fractions import Fraction

import torch
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..instructx_core.demo import DEMO_EDITS
from ..instructx_core.errors import InputError
from ..instructx_core.world import GROUPS, HELD_OUT_SEED, sample_triplet
from . import categories
from .pixels import to_video

FRAME_RATE = Fraction(8)
REFERENCE = 3  # the number of that output
SHIPPED = {f"shipped {edit.source.name}": edit for edit in DEMO_EDITS}


class InstructXExampleInput(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InstructXExampleInput",
            display_name="InstructX Example Input",
            category=categories.IMAGE,
            description=(
                "A picture or a clip of the world that the bundled model knows, with an instruction that fits it."
            ),
            search_aliases=["instructx", "demo", "test picture"],
            inputs=[
                io.Combo.Input(
                    "example",
                    options=[*GROUPS, *SHIPPED],
                    default="recolor",
                    tooltip="Which kind of edit the instruction asks for, or a file of the pack.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**31 - 1,
                    control_after_generate=False,
                    tooltip="Which picture; none of them was in the training data. A file of the pack has no seed.",
                ),
                io.Int.Input(
                    "frames",
                    default=1,
                    min=1,
                    max=1000,
                    tooltip="1 for a picture, more for a clip of 8 frames a second. Not for files.",
                ),
                io.Int.Input(
                    "width",
                    default=64,
                    min=16,
                    max=2048,
                    step=8,
                    tooltip="In pixels; the bundled model was trained at 64. Not for files.",
                ),
                io.Int.Input(
                    "height",
                    default=64,
                    min=16,
                    max=2048,
                    step=8,
                    tooltip="In pixels; the bundled model was trained at 64. Not for files.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="IMAGE", tooltip="The frames."),
                io.Video.Output(display_name="VIDEO", tooltip="The same as a video."),
                io.String.Output(display_name="instruction", tooltip="What to change."),
                io.Image.Output(
                    display_name="reference", tooltip="The reference image of reference_swap and reference_add."
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )

    @classmethod
    def execute(cls, example: str, seed: int, frames: int, width: int, height: int) -> io.NodeOutput:
        if example in SHIPPED:
            return cls._shipped(example)
        triplet = sample_triplet(HELD_OUT_SEED + seed, example, frames=frames, height=height, width=width)
        images = torch.from_numpy(triplet.source)
        reference = torch.from_numpy(triplet.references[0])[None] if triplet.references else cls._no_reference(example)
        return io.NodeOutput(images, to_video(images, FRAME_RATE), triplet.instruction, reference)

    @classmethod
    def _shipped(cls, example: str) -> io.NodeOutput:
        from ..instructx_core.source import load_source

        edit = SHIPPED[example]
        source = load_source(edit.source)
        rate = source.info.fps if source.info is not None else FRAME_RATE
        return io.NodeOutput(source.frames, to_video(source.frames, rate), edit.instruction, cls._no_reference(example))

    @classmethod
    def _no_reference(cls, example: str) -> ExecutionBlocker:
        """Raises InputError where a node of the graph waits for the reference: nothing after it would be made."""
        words = f"The example {example!r} has no reference image; choose reference_swap or reference_add."
        prompt = (cls.hidden and cls.hidden.prompt) or {}
        wanted = [cls.hidden.unique_id, REFERENCE] if prompt else None
        if wanted and any(wanted in node.get("inputs", {}).values() for node in prompt.values()):
            raise InputError(words)
        return ExecutionBlocker(words)
