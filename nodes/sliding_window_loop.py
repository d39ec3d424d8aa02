"""InstructX Sliding Window (Loop): conditioning, reference and mask are made for each window by the nodes after a
Window Open.

Like Window Close, it expands to a hidden node, so that ComfyUI runs and caches the nodes outside the loop.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from comfy_api.latest import InputImpl, io

from ..instructx_core.errors import InputError
from ..instructx_core.windows import Head, Reading
from . import categories, sampling
from .graph_identity import origins
from .inner_nodes import InnerNodes, run_loop
from .loop_expansion import expand, ran, run_schema
from .menus import mismatch
from .model_pair import low_input
from .nested_execution import check_executor
from .sliding_window import PARTS, check_words, edit_into_file, native_of
from .sockets import Connector, Flow, Mllm
from .window_loop import depending, find_loop

if TYPE_CHECKING:
    from pathlib import Path

    from .sockets import FlowValue

ANEW = ("positive", "negative", "reference", "mask")


class InstructXSlidingWindowLoop(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        anew = {"optional": True, "lazy": True, "raw_link": True}
        return io.Schema(
            node_id="InstructXSlidingWindowLoop",
            display_name="InstructX Sliding Window (Loop)",
            category=categories.VIDEO,
            description=(
                "The end of a loop, which also samples: InstructX Sliding Window for any video MODEL, with "
                "conditioning, reference and mask made for each window by the nodes after InstructX Window Open."
            ),
            search_aliases=["instructx", "loop", "long video", "conditioning per window", "vace", "bernini"],
            inputs=[
                Flow.Input("flow", tooltip="From InstructX Window Open, with its source, window, overlap and cuts."),
                io.Model.Input(
                    "model",
                    tooltip=(
                        "Any video MODEL; with mllm and connector, one from InstructX Load Model or InstructX Load "
                        "Adapter."
                    ),
                ),
                io.Vae.Input("vae", tooltip="The MODEL's own VAE."),
                Mllm.Input("mllm", optional=True, tooltip="Reads the instruction. Not together with positive."),
                Connector.Input(
                    "connector", optional=True, tooltip="From the MLLM's loader. Not together with positive."
                ),
                io.String.Input(
                    "instruction",
                    multiline=True,
                    default="",
                    tooltip="What to change, in a sentence. Only read by an MLLM.",
                ),
                io.Combo.Input(
                    "head",
                    options=[head.value for head in Head],
                    default=Head.PIN.value,
                    tooltip=(
                        "How a window takes over the end of the last one. pin: held in the noisy latents. source: in "
                        "place of the source's frame, as in the paper. latent: as a latent that was never decoded."
                    ),
                    advanced=True,
                ),
                io.Boolean.Input(
                    "hold_colour",
                    default=True,
                    tooltip="Keep the source's colours where nothing was edited, so that drift does not add up.",
                    advanced=True,
                ),
                *sampling.inputs(io.ControlAfterGenerate.fixed),  # a new seed would restart the edit after Cancel
                io.Conditioning.Input("positive", tooltip="Replaces MLLM, connector and instruction.", **anew),
                io.Conditioning.Input("negative", tooltip="Goes with positive. Not needed if cfg is 1.", **anew),
                io.Image.Input("reference", tooltip="An image with the subject that the instruction mentions.", **anew),
                io.Mask.Input(
                    "mask",
                    tooltip=(
                        "Edit only here; the source's pixels stay elsewhere. At the source's size: one mask for the "
                        "window, or one per frame."
                    ),
                    **anew,
                ),
                low_input(),
            ],
            outputs=[
                io.Video.Output(
                    display_name="VIDEO", tooltip="The edit, with the source's times, sound, rotation and colour tags."
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
            enable_expand=True,
        )

    @classmethod
    def validate_inputs(cls, instruction: str | None = None, input_types: dict[str, str] | None = None) -> bool | str:
        linked = input_types or {}
        said_by = None if "mllm" not in linked else instruction
        return mismatch(cls, linked) or check_words(said_by, None, input_types)

    @classmethod
    def execute(cls, flow: FlowValue, **_inputs: Any) -> io.NodeOutput:
        check_executor()
        own_id, prompt = cls.hidden.unique_id, cls.hidden.dynprompt
        names = depending(prompt, flow.node_id, own_id, ANEW)
        if not names:
            raise InputError(
                "None of positive, negative, reference and mask comes from Window Open's outputs; connect one that "
                "does, or use InstructX Sliding Window."
            )
        loop = find_loop(prompt, flow.node_id, own_id, names)
        outside = {
            name: value
            for name, value in prompt.get_node(own_id)["inputs"].items()
            if name not in names and name != "flow"
        }
        return expand("InstructXSlidingWindowLoopRun", loop, own_id, **outside)


class InstructXSlidingWindowLoopRun(io.ComfyNode):
    """The hidden node that InstructX Sliding Window (Loop) expands to."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        end = "InstructX Sliding Window (Loop)"
        return run_schema("InstructXSlidingWindowLoopRun", f"{end} Run", end)

    @classmethod
    async def execute(
        cls, flow: list[FlowValue], end_id: list[str], nonce: list[str], outer: list[str], **values: list[Any]
    ) -> io.NodeOutput:
        prompt = cls.hidden.dynprompt
        given = {name: _one(name, value) for name, value in values.items() if not name.startswith("outer_")}
        graph, settled = origins(prompt, end_id[0], PARTS)
        names = depending(prompt, flow[0].node_id, end_id[0], ANEW)

        def edit(inner: InnerNodes) -> Path:
            return _edit(inner, given, graph, settled)

        path = await run_loop(flow[0], ran(cls, end_id[0], outer[0], values), names, edit)
        return io.NodeOutput(InputImpl.VideoFromFile(str(path)))


def _one(name: str, values: list[Any]) -> Any:
    """The only value of a list. Raises InputError for any other length: the video is edited once."""
    if len(values) != 1:
        raise InputError(f"{name}: a list of {len(values)} came from outside the loop; connect a single one.")
    return values[0]


def _edit(inner: InnerNodes, given: dict[str, Any], graph: dict[str, str] | None, settled: bool) -> Path:
    """Edit the whole video.

    Args:
        given: values by the names of Sliding Window (Loop)'s inputs.
        graph, settled: from `origins`, for the MODEL and the other `PARTS`.
    """
    from .each_window import EachWindow

    flow = inner.flow
    asked = {"window": 0, "overlap": 0, "cuts": "", "guidance_from": Reading.WINDOW.value}
    settings = asked | {name: value for name, value in given.items() if name not in ("model", "vae", "instruction")}
    settings["anew"] = EachWindow(inner)
    native, options = native_of(given["model"], given["vae"], given["instruction"], settings, graph, is_video=True)
    of_open = flow.options
    options = replace(options, window=of_open.window, overlap=of_open.overlap, cuts=of_open.cuts)
    return edit_into_file(native, options, flow.source, settings.get("mask"), again=not (settled and inner.settled))
