"""InstructX Window Open: start of a loop over the windows of a video; the loop's end feeds the inner nodes."""

from __future__ import annotations

import stat
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import folder_paths
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..instructx_core.bounded import why
from ..instructx_core.errors import InputError
from ..instructx_core.windows import USUAL_OVERLAP, Head, Span, parse_cuts
from ..instructx_core.words import shown
from . import categories
from .menus import mismatch, problem
from .sockets import Flow, FlowValue

if TYPE_CHECKING:
    from comfy_api.latest import Input

HEADS = ("none", "source", "mask")
FOLDER = "InstructX/windows"
WAN_STRIDE = 4  # frames per latent frame in most video models


class InstructXWindowOpen(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InstructXWindowOpen",
            display_name="InstructX Window Open",
            category=categories.VIDEO,
            description=(
                "Run any nodes over a video of any length. The nodes between here and InstructX "
                "Window Close run once per window, with one window in memory. Cancel, a crash or a "
                "restart keeps finished windows; the next Run continues from them."
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
                io.Video.Input("source", tooltip="Any size, any length. Streamed if it comes from Load Video."),
                io.Int.Input(
                    "window",
                    default=81,
                    min=1,
                    max=100_000,
                    tooltip="Frames that the inner nodes get at once: their model's training length.",
                ),
                io.Int.Input(
                    "overlap",
                    default=USUAL_OVERLAP,
                    min=0,
                    max=1024,
                    tooltip=(
                        "Frames that two windows share; the later window fades in over them. 0 for nodes that treat "
                        "each frame separately."
                    ),
                ),
                io.Combo.Input(
                    "head",
                    options=list(HEADS),
                    default="none",
                    tooltip=(
                        "How a window begins. none: with the source's frames. source: the last window's edit "
                        "replaces the first shared frame. mask: it replaces all shared frames; wire `held`, "
                        "inverted, to a noise mask or a VACE mask to keep them."
                    ),
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**64 - 1,
                    control_after_generate=io.ControlAfterGenerate.fixed,  # a new seed would restart after Cancel
                    tooltip="Passed on as the output seed, the same for every window.",
                ),
                io.String.Input(
                    "cuts",
                    default="",
                    tooltip=(
                        "First frames of new scenes, such as 120,480. No window crosses them. Empty: none. "
                        "auto: find them."
                    ),
                    advanced=True,
                ),
                io.Boolean.Input(
                    "hold_colour",
                    default=False,
                    tooltip=(
                        "Keep the source's colours where nothing was edited, for models that drift. Leave it "
                        "off for nodes that change colours slightly on purpose."
                    ),
                    advanced=True,
                ),
                io.String.Input(
                    "folder",
                    default=FOLDER,
                    tooltip="Folder inside ComfyUI's output folder, for finished windows and the final video.",
                    advanced=True,
                ),
            ],
            outputs=[
                io.Image.Output("frames", tooltip="Frames of this window."),
                io.Mask.Output(
                    "held", tooltip="One mask per frame: 1 where the frame is already edited and must stay."
                ),
                io.Image.Output(
                    "tail",
                    tooltip=("The edited frames shared with the last window. In the first window: its first frame."),
                ),
                io.Int.Output("index", tooltip="Number of this window, from 0."),
                io.Int.Output("count", tooltip="Number of windows."),
                io.Int.Output("seed_out", display_name="seed", tooltip="The seed set above."),
                Flow.Output(
                    "flow", display_name="FLOW", tooltip="To InstructX Window Close or InstructX Sliding Window (Loop)."
                ),
                io.Int.Output("start", tooltip="This window's first frame in the video, from 0."),
            ],
            hidden=[io.Hidden.unique_id],
            not_idempotent=True,  # the FLOW holds this node's id, so it must not come from an identical node's cache
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
            return f"head: there is no {head!r}; choose {', '.join(HEADS[:-1])} or {HEADS[-1]}."
        for values, check in (((window, overlap), check_lengths), ((cuts,), _check_cuts), ((folder,), output_folder)):
            said = True if None in values else problem(check, *values)
            if said is not True:
                return said
        return True

    @classmethod
    def execute(cls, source: Input.Video, window: int, overlap: int, **settings: Any) -> io.NodeOutput:
        from ..instructx_core.long_video import LongOptions

        check_lengths(window, overlap)
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
        # there is no window outside the loop: previews and savers inside are blocked silently until the loop's end runs
        none = ExecutionBlocker(None)
        return io.NodeOutput(*[none] * 6, flow, none)


def check_lengths(window: int, overlap: int) -> None:
    """Raise InputError unless windows of these lengths edit new frames; ComfyUI checks no bounds of linked values, nor
    those of a node that checks a value itself."""
    for name, frames, least in (("window", window, 1), ("overlap", overlap, 0)):
        if frames < least:
            raise InputError(f"{name} is {frames}; give {least} or more frames.")
    if overlap >= window:
        raise InputError(
            f"overlap is {overlap} and window {window}, which leaves no new frames to edit; lower overlap."
        )


def output_folder(name: str) -> Path:
    """A folder inside ComfyUI's output folder, which need not exist.

    Raises:
        InputError: the folder is elsewhere or hidden, or there cannot be a folder of this name.
    """
    root = Path(folder_paths.get_output_directory()).resolve()
    try:
        folder = (root / name.strip()).resolve()
        inside = folder.is_relative_to(root) and not any(
            part.startswith(".") for part in folder.relative_to(root).parts
        )
    except (OSError, ValueError):  # ValueError: not inside it
        inside = False
    if not inside:
        raise InputError(
            f"folder: {name!r} is not a visible folder in ComfyUI's output folder; give one like {FOLDER}."
        )
    try:
        mode = folder.stat().st_mode
    except FileNotFoundError:
        return folder
    except OSError as error:  # a name that is too long, or one below a file
        raise InputError(f"folder: {shown(name)} cannot be used ({why(error)}); give one like {FOLDER}.") from error
    if not stat.S_ISDIR(mode):
        raise InputError(f"folder: {shown(name)} is a file; give a folder, like {FOLDER}.")
    return folder


def _check_cuts(words: str) -> None:
    if words.strip():
        parse_cuts(words)
