"""InstructX MLLM Guidance: have the MLLM read the instruction, the source and the references."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.utils
from comfy_api.latest import io

from ..instructx_core.instruction import check_instruction
from . import categories, references
from .depth import warn
from .menus import check_reference, mismatch, problem
from .pixels import to_clip
from .sockets import Fit, Guidance, GuidanceValue, Mllm

if TYPE_CHECKING:
    import torch
    from comfy_api.latest import Input

    from .sockets import FitValue, LoadedMllm


class InstructXMLLMGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InstructXMLLMGuidance",
            display_name="InstructX MLLM Guidance",
            category=categories.CONDITIONING,
            description=(
                "The MLLM reads the instruction and looks at the source and the references. The connected inputs "
                "decide between image, video and reference queries."
            ),
            search_aliases=["instructx", "instruction", "prompt", "edit image", "edit video", "instruct pix2pix"],
            inputs=[
                Mllm.Input("mllm", tooltip="From InstructX Load Model or InstructX Load MLLM."),
                io.MultiType.Input(
                    "source",
                    [io.Image, io.Video],
                    tooltip="The picture or video to edit. An IMAGE batch counts as a video.",
                ),
                io.String.Input(
                    "instruction",
                    multiline=True,
                    default="make the red circle blue",
                    tooltip="What to change, in a sentence.",
                ),
                io.Image.Input(
                    "reference",
                    optional=True,
                    tooltip="An image with the subject that the instruction mentions. A batch gives several.",
                ),
                Fit.Input(
                    "fit",
                    optional=True,
                    tooltip=(
                        "Connect it if the source comes from InstructX Fit. The MLLM then sees the picture "
                        "without its border and repeated frames."
                    ),
                ),
                references.further(),
            ],
            outputs=[Guidance.Output(display_name="GUIDANCE", tooltip="What the MLLM understood.")],
        )

    @classmethod
    def validate_inputs(
        cls,
        instruction: str | None = None,
        input_types: dict[str, str] | None = None,
        further: Any = None,  # ComfyUI passes growing inputs to every function of a node, even when empty
    ) -> bool | str:
        wrong = mismatch(cls, input_types or {})
        if wrong is not None or instruction is None:
            return wrong or True
        said = problem(check_instruction, instruction)
        return problem(check_reference, instruction, input_types or {}) if said is True else said

    @classmethod
    def execute(
        cls,
        mllm: LoadedMllm,
        source: torch.Tensor | Input.Video,
        instruction: str,
        reference: torch.Tensor | None = None,
        fit: FitValue | None = None,
        further: io.Autogrow.Type | None = None,
    ) -> io.NodeOutput:
        clip = to_clip(source)
        frames, is_video = clip.frames, clip.is_video
        if fit is not None:
            frames = fit.cut(frames)
            is_video = fit.is_video
        shown = references.every(reference, further)
        warn(mllm, instruction, frames)
        bar = comfy.utils.ProgressBar(2)
        return io.NodeOutput(understand(mllm, instruction, frames, shown, is_video, bar))


def understand(
    mllm: LoadedMllm,
    instruction: str,
    frames: torch.Tensor,
    references: list[torch.Tensor],
    is_video: bool,
    bar: comfy.utils.ProgressBar | None = None,
    both: bool = True,
) -> GuidanceValue:
    """Guidance with the instruction, and without one for cfg, from the same pixels [T, H, W, 3].

    Args:
        bar: counts both forwards; None for a caller that has its own bar.
        both: False for a run that never uses the guidance without an instruction, which then is the one with it.

    Raises:
        InputError: an empty instruction.
    """
    from .memory import read

    check_instruction(instruction)
    read_both = []
    for words in (instruction, None)[: 2 if both else 1]:
        guidance, places = read(mllm, words, frames, references, is_video)
        read_both.append(guidance)
        if bar is not None:
            bar.update(1)
    return GuidanceValue(read_both[0], read_both[-1], mllm.name, places)
