"""InstructX Window Open: where a loop over the windows of a video begins; what the nodes inside get, Close decides."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import folder_paths
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..instructx_core.errors import InputError
from ..instructx_core.windows import USUAL_OVERLAP, Head, Span, parse_cuts
from . import categories
from .menus import mismatch, problem
from .sockets import Flow, FlowValue

if TYPE_CHECKING:
    from comfy_api.latest import Input

HEADS = ("none", "source", "mask")
FOLDER = "InstructX/windows"
WAN_STRIDE = 4  # frames of a latent, in most video models


class InstructXWindowOpen(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InstructXWindowOpen",
            display_name="InstructX Window Open",
            category=categories.VIDEO,
            description=(
                "A video of any length through any nodes, window by window: they stand between this node and InstructX "
                "Window Close, run once for each window, and memory holds one window. Cancel, a crash or a restart "
                "keeps finished windows, and running the same graph again goes on from them."
            ),
            search_aliases=[
                "instructx",
                "loop",
                "for each",
                "long video",
                "batch",
                "chunk",
                "context window",
                "resume",
            ],
            inputs=[
                io.Video.Input("source", tooltip="Any size, any length; from Load Video it is streamed."),
                io.Int.Input(
                    "window",
                    default=81,
                    min=1,
                    max=100_000,
                    tooltip="Frames that the nodes inside get in one go: what their model was trained at.",
                ),
                io.Int.Input(
                    "overlap",
                    default=USUAL_OVERLAP,
                    min=0,
                    max=1024,
                    tooltip=(
                        "Frames that two windows share, over which the later one fades in; 0 for nodes that treat each"
                        " frame by itself."
                    ),
                ),
                io.Combo.Input(
                    "head",
                    options=list(HEADS),
                    default="none",
                    tooltip=(
                        "How a window begins: with the source's frames (none); with the first shared frame as the last"
                        " window edited it, in its place (source); with all shared frames edited, to be held by a mask"
                        " (mask: wire `held` to a noise mask or a VACE mask, inverted)."
                    ),
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**64 - 1,
                    control_after_generate=io.ControlAfterGenerate.fixed,  # another would begin anew after Cancel
                    tooltip="Comes out of `seed`, the same for every window.",
                ),
                io.String.Input(
                    "cuts",
                    default="",
                    tooltip=(
                        "First frames of new scenes, as 120,480: windows start anew there. Empty for none, auto to find"
                        " them."
                    ),
                    advanced=True,
                ),
                io.Boolean.Input(
                    "hold_colour",
                    default=False,
                    tooltip=(
                        "Keep the colour of unedited pixels at the source's, for generative models that drift; off for"
                        " nodes that change colour slightly on purpose."
                    ),
                    advanced=True,
                ),
                io.String.Input(
                    "folder",
                    default=FOLDER,
                    tooltip="Below ComfyUI's output folder: finished windows, and the whole video in the end.",
                    advanced=True,
                ),
            ],
            outputs=[
                io.Image.Output("frames", tooltip="Of the present window."),
                io.Mask.Output("held", tooltip="One for each frame: 1 where it is edited already and is to stay."),
                io.Image.Output(
                    "tail",
                    tooltip="The last window's edited frames that this one shares; in a first window, its first frame.",
                ),
                io.Int.Output("index", tooltip="Of the window, from 0."),
                io.Int.Output("count", tooltip="How many windows there are."),
                io.Int.Output("seed_out", display_name="seed", tooltip="As set above."),
                Flow.Output("flow", display_name="FLOW", tooltip="To InstructX Window Close."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(
        cls,
        window: int | None = None,
        overlap: int | None = None,
        head: str | None = None,
        cuts: str | None = None,
        folder: str | None = None,
        input_types: dict[str, str] | None = None,
    ) -> bool | str:
        wrong = mismatch(cls, input_types or {})
        if wrong:
            return wrong
        if head is not None and head not in HEADS:
            return f"head: {head!r} is none of {', '.join(HEADS)}."
        if window is not None and overlap is not None and overlap >= window:
            return f"overlap: {overlap} frames of a window of {window} leave nothing to edit; give fewer."
        for value, check in ((cuts, _check_cuts), (folder, output_folder)):
            said = True if value is None else problem(check, value)
            if said is not True:
                return said
        return True

    @classmethod
    def execute(cls, source: Input.Video, window: int, overlap: int, **settings: Any) -> io.NodeOutput:
        from ..instructx_core.long_video import LongOptions

        output_folder(settings["folder"])
        options = LongOptions(
            window=Span(Fraction(window)),
            overlap=Span(Fraction(overlap)),
            head=Head.PIN if settings["head"] == "none" else Head.SOURCE,
            anchor_colour=settings["hold_colour"],
            cuts=parse_cuts(settings["cuts"]) if settings["cuts"].strip() else (),
        )
        flow = FlowValue(
            cls.hidden.unique_id,
            source,
            options,
            WAN_STRIDE if window % WAN_STRIDE == 1 else 1,
            settings["head"] == "mask",
            settings["seed"],
            settings["folder"],
        )
        # outside of the loop there is no window: previews and savers inside wait for Window Close without a word
        return io.NodeOutput(*[ExecutionBlocker(None)] * 6, flow)


def output_folder(name: str) -> Path:
    """A folder below ComfyUI's output folder.

    Raises:
        InputError: it is elsewhere.
    """
    root = Path(folder_paths.get_output_directory()).resolve()
    try:
        folder = (root / name.strip()).resolve()
        inside = folder.is_relative_to(root) and not any(
            part.startswith(".") for part in folder.relative_to(root).parts
        )
    except (OSError, ValueError):  # ValueError: not below it
        inside = False
    if not inside:
        raise InputError(f"folder: {name!r} is no folder below ComfyUI's output folder; give one such as {FOLDER}.")
    return folder


def _check_cuts(words: str) -> None:
    if words.strip():
        parse_cuts(words)
