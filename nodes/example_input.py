"""InstructX Example Input: a picture or clip with an instruction, so that a graph runs without the user's own files."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import torch
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..instructx_core.errors import InputError
from ..instructx_core.examples import Drawn, NamedExample, examples
from ..instructx_core.words import shown
from ..instructx_core.world import GROUPS, HELD_OUT_SEED, PLAIN, RICH, sample_triplet
from . import categories
from .menus import problem
from .pixels import to_video

if TYPE_CHECKING:
    from ..instructx_core.world import Triplet

FRAME_RATE = Fraction(8)
REFERENCE = 3  # index of the reference output
RANDOM = "random: "
MENU = (*examples(), *(f"{RANDOM}{group}" for group in GROUPS))
FILES = {f"shipped {one.file.name}": one for one in examples().values() if one.file}  # names in older graphs


class InstructXExampleInput(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InstructXExampleInput",
            display_name="InstructX Example Input",
            category=categories.IMAGE,
            description="A picture or a clip to try an edit on, with a sentence that fits it.",
            search_aliases=["instructx", "demo", "test picture", "sample photo"],
            inputs=[
                io.Combo.Input(
                    "example",
                    options=list(MENU),
                    tooltip=(
                        "A fixed picture, by name, or a random one for a kind of edit. The widgets below are only "
                        "for random ones."
                    ),
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**31 - 1,
                    control_after_generate=False,
                    tooltip="Which random picture. None of them was in the training data.",
                ),
                io.Int.Input(
                    "frames",
                    default=1,
                    min=1,
                    max=1000,
                    tooltip="1 for a picture, more for a clip at 8 frames a second. Only for random ones.",
                ),
                io.Int.Input(
                    "width",
                    default=256,
                    min=16,
                    max=2048,
                    step=8,
                    tooltip="In pixels. Only for random ones.",
                ),
                io.Int.Input(
                    "height",
                    default=256,
                    min=16,
                    max=2048,
                    step=8,
                    tooltip="In pixels. Only for random ones.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="IMAGE", tooltip="The frames."),
                io.Video.Output(display_name="VIDEO", tooltip="The frames as a video."),
                io.String.Output(display_name="instruction", tooltip="The sentence: what to change."),
                io.Image.Output(
                    display_name="reference",
                    tooltip="The reference image, if the example's name mentions one.",
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )

    @classmethod
    def validate_inputs(cls, example: str | None = None) -> bool | str:
        return True if example is None else problem(_chosen, example, Drawn("", 0))

    @classmethod
    def execute(cls, example: str, seed: int, frames: int, width: int, height: int) -> io.NodeOutput:
        chosen = _chosen(example, Drawn("", seed, frames, width, height))
        if chosen.drawn is None:
            return cls._from_file(chosen)
        triplet = _draw(chosen.drawn)
        images = torch.from_numpy(triplet.source)
        reference = torch.from_numpy(triplet.references[0])[None] if triplet.references else cls._no_reference(example)
        words = chosen.instruction or triplet.instruction
        return io.NodeOutput(images, to_video(images, FRAME_RATE), words, reference)

    @classmethod
    def _from_file(cls, chosen: NamedExample) -> io.NodeOutput:
        from ..instructx_core.source import load_source

        source = load_source(chosen.file)
        rate = source.info.fps if source.info is not None else FRAME_RATE
        video = to_video(source.frames, rate)
        return io.NodeOutput(source.frames, video, chosen.instruction, cls._no_reference(chosen.name))

    @classmethod
    def _no_reference(cls, example: str) -> ExecutionBlocker:
        """Block the output. Raises InputError if a node is connected to it, which would silently never run."""
        words = f"The example {example!r} has no reference image; choose one whose name mentions a reference."
        prompt = (cls.hidden and cls.hidden.prompt) or {}
        wanted = [cls.hidden.unique_id, REFERENCE] if prompt else None
        if wanted and any(wanted in node.get("inputs", {}).values() for node in prompt.values()):
            raise InputError(words)
        return ExecutionBlocker(words)


def _chosen(example: object, asked: Drawn) -> NamedExample:
    """The example of a menu entry, or of a name from an older graph; `asked` sets how a random one is drawn.

    Raises:
        InputError: no such example.
    """
    found = None
    if isinstance(example, str):  # ComfyUI leaves the check of this menu to the node, whatever the graph holds
        group = example.removeprefix(RANDOM)
        if group in GROUPS:
            drawn = Drawn(group, asked.seed, asked.frames, asked.width, asked.height)
            return NamedExample(group, example, "", drawn=drawn)
        found = examples().get(example) or FILES.get(example)
    if found is None:
        raise InputError(f"There is no example {shown(example)}; choose one from the menu.")
    return found


def _draw(drawn: Drawn) -> Triplet:
    return sample_triplet(
        HELD_OUT_SEED + drawn.seed,
        drawn.group,
        frames=drawn.frames,
        height=drawn.height,
        width=drawn.width,
        variety=RICH if drawn.rich else PLAIN,
    )
