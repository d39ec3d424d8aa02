"""InstructX Sliding Window: edit a video of any length window by window (A.5), streamed from file to file.

The loop, the joins and the finished windows on disk are the library's (`instructx_core.long_video`); ComfyUI's MODEL
and VAE do the editing (native_windows.py).
"""

from __future__ import annotations

import hashlib
import json
import time
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import comfy.utils
import latent_preview
import torch
from comfy_api.latest import InputImpl, io

from ..instructx_core.instruction import check_instruction
from ..instructx_core.windows import USUAL_OVERLAP, Cuts, Head, Reading, Span, parse_cuts
from . import categories, references, sampling
from .fit import FRAME_RATE
from .footage import footage_of
from .graph_identity import origins
from .masks import for_frames, warn_if_empty
from .menus import check_reference, mismatch, problem
from .model_pair import low_input
from .notes import MADE_BEFORE, clock, other_seed, say, show
from .pixels import rgb
from .sockets import Connector, Mllm
from .video_files import temp_folder

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from comfy.model_patcher import ModelPatcher
    from comfy_api.latest import Input

    from ..instructx_core.long_video import LongOptions, LongProgress
    from .native_windows import NativeModel

PARTS = ("model", "model_low", "vae", "mllm", "connector", "positive", "negative")


def inputs(source: io.Input) -> list[io.Input]:
    """The inputs of both nodes, in order."""
    return [
        io.Model.Input(
            "model",
            tooltip=("From InstructX Load Model or InstructX Load Adapter. With positive connected: any video MODEL."),
        ),
        io.Vae.Input("vae", tooltip="From the same loader."),
        Mllm.Input("mllm", optional=True, tooltip="From the same loader. Not together with positive."),
        Connector.Input("connector", optional=True, tooltip="From the same loader. Not together with positive."),
        source,
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
            tooltip="Frames edited at once. 0: the model's training length.",
        ),
        io.Int.Input(
            "overlap",
            default=USUAL_OVERLAP,
            min=0,
            max=64,
            tooltip=(
                "Frames that two windows share. 1: as in the paper. More: the windows fade into each "
                "other (5 hides the joins). 0: none."
            ),
        ),
        io.Combo.Input(
            "head",
            options=[head.value for head in Head],
            default=Head.PIN.value,
            tooltip=(
                "How a window takes over the end of the last one. pin: held in the noisy latents. "
                "source: in place of the source's frame, as in the paper. latent: as a latent that "
                "was never decoded."
            ),
            advanced=True,
        ),
        io.Combo.Input(
            "guidance_from",
            options=[reading.value for reading in Reading],
            default=Reading.WINDOW.value,
            tooltip=(
                "What the MLLM reads. window: each window. video: frames of the whole video, once, "
                "for subjects that appear late."
            ),
            advanced=True,
        ),
        io.String.Input(
            "cuts",
            default="",
            tooltip=(
                "First frames of new scenes, such as 120,480. No window crosses them. Empty: none. auto: find them."
            ),
            advanced=True,
        ),
        io.Boolean.Input(
            "hold_colour",
            default=True,
            tooltip=("Keep the source's colours where nothing was edited, so that drift does not add up."),
            advanced=True,
        ),
        *sampling.inputs(io.ControlAfterGenerate.fixed),  # a new seed would restart the edit after Cancel
        io.Image.Input(
            "reference",
            optional=True,
            tooltip="An image with the subject that the instruction mentions. A batch gives several.",
        ),
        io.Mask.Input(
            "mask",
            optional=True,
            tooltip=(
                "Edit only here; the source's pixels stay elsewhere. At the source's size: one mask "
                "for the whole video, or one per frame."
            ),
        ),
        io.Conditioning.Input(
            "positive",
            optional=True,
            tooltip=(
                "Replaces MLLM, connector and instruction for all windows. Any video MODEL then edits"
                " from the source's latents; set denoise below 1 or connect a mask."
            ),
        ),
        io.Conditioning.Input("negative", optional=True, tooltip="Goes with positive. Not needed if cfg is 1."),
        low_input(),
        references.further(),
    ]


def check_words(instruction: str | None, cuts: str | None, connected: Collection[str] | None) -> bool | str:
    """Check the texts and the connections that provide guidance; an error text, or True.

    Args:
        instruction, cuts: None if it comes from a link.
        connected: names of the linked sockets; None if unknown.
    """
    linked, guided = set(connected or ()), {"mllm", "connector"}
    if "positive" in linked:
        return "positive and mllm are both connected; connect only one of them." if guided & linked else _said_of(cuts)
    if connected is not None and not guided <= linked:
        return "Nothing says what to change; connect mllm and connector, or positive and negative."
    said = True if instruction is None else problem(check_instruction, instruction)
    if said is True and instruction is not None:
        said = problem(check_reference, instruction, linked)
    return _said_of(cuts) if said is True else said


def _said_of(cuts: str | None) -> bool | str:
    return problem(_cuts, cuts or "")


class InstructXSlidingWindow(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InstructXSlidingWindow",
            display_name="InstructX Sliding Window",
            category=categories.VIDEO,
            description=(
                "Edit a video of any length, window by window. Only one window is in memory. Cancel "
                "keeps finished windows; the next Run continues from them."
            ),
            search_aliases=["instructx", "long video", "edit video", "video to video", "wan", "kiwi"],
            inputs=inputs(
                io.Video.Input("source", tooltip="Any size, any length. Streamed if it comes from Load Video.")
            ),
            outputs=[
                io.Video.Output(
                    display_name="VIDEO", tooltip="The edit, with the source's times, sound, rotation and colour tags."
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
        )

    @classmethod
    def validate_inputs(
        cls,
        instruction: str | None = None,
        cuts: str | None = None,
        input_types: dict[str, str] | None = None,
        further: Any = None,  # ComfyUI passes growing inputs to every function of a node, even when empty
    ) -> bool | str:
        return mismatch(cls, input_types or {}) or check_words(instruction, cuts, input_types)

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        vae: Any,
        source: Input.Video,
        instruction: str,
        mask: torch.Tensor | None = None,
        **settings: Any,
    ) -> io.NodeOutput:
        hidden = cls.hidden
        graph, settled = (None, True) if hidden is None else origins(hidden.dynprompt, hidden.unique_id, PARTS)
        native, options = native_of(model, vae, instruction, settings | {"mask": mask}, graph, is_video=True)
        path = edit_into_file(native, options, source, mask, again=not settled)
        return io.NodeOutput(InputImpl.VideoFromFile(str(path)))


class InstructXSlidingWindowImages(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InstructXSlidingWindowImages",
            display_name="InstructX Sliding Window (Images)",
            category=categories.VIDEO,
            description=("InstructX Sliding Window for a short clip as an IMAGE batch. All frames are in memory."),
            search_aliases=["instructx", "long video", "edit video", "batch"],
            inputs=inputs(io.Image.Input("source", tooltip="The frames of a clip, of any size.")),
            outputs=[
                io.Image.Output(display_name="IMAGE", tooltip="The edited frames, at the source's size and length."),
            ],
        )

    @classmethod
    def validate_inputs(
        cls,
        instruction: str | None = None,
        cuts: str | None = None,
        input_types: dict[str, str] | None = None,
        further: Any = None,  # ComfyUI passes growing inputs to every function of a node, even when empty
    ) -> bool | str:
        return mismatch(cls, input_types or {}) or check_words(instruction, cuts, input_types)

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        vae: Any,
        source: torch.Tensor,
        instruction: str,
        mask: torch.Tensor | None = None,
        **settings: Any,
    ) -> io.NodeOutput:
        from ..instructx_core.compositing import composite
        from ..instructx_core.long_video import WindowRun, plan_edit
        from ..instructx_core.long_video.cuts import with_cuts
        from ..instructx_core.long_video.footage import in_memory

        frames = rgb(source, "source")
        native, options = native_of(model, vae, instruction, settings | {"mask": mask}, None, is_video=len(frames) > 1)
        native.mask = None if mask is None else for_frames(mask, len(frames), tuple(frames.shape[1:3]))
        if native.mask is not None:
            warn_if_empty(native.mask)
        footage = in_memory(frames, FRAME_RATE)
        windows, editor = plan_edit(native, footage, with_cuts(options, footage))
        watcher = Watcher(native)
        edited = torch.empty_like(frames)
        for index, frame in WindowRun(
            footage, windows, editor, callback=watcher.step, finished=watcher.window
        ).frames():
            edited[index] = frame / 255
        return io.NodeOutput(edited if native.mask is None else composite(frames, edited, native.mask))


def edit_into_file(
    native: NativeModel,
    options: LongOptions,
    source: Input.Video,
    mask: torch.Tensor | None = None,
    again: bool = False,
) -> Path:
    """Edit a video into a file in the pack's temporary folder, reusing finished windows of an earlier run.

    Args:
        mask: where to edit, one for the whole video or one per frame.
        again: edit even if the finished file exists.
    """
    from ..instructx_core.long_video import edit_footage, identity
    from ..instructx_core.long_video.cuts import check_cuts, with_cuts
    from ..instructx_core.long_video.unfinished import kept_by_seed

    check_cuts(options)
    with footage_of(source) as footage:
        size = (footage.info.height, footage.info.width)
        native.mask = None if mask is None else for_frames(mask, len(footage.pts), size)
        if native.mask is not None:
            warn_if_empty(native.mask)
        options = with_cuts(options, footage)
        # named by a hash of the edit, so that only the same edit finds its windows again
        words = json.dumps(identity(native, footage, options), sort_keys=True)
        output = temp_folder() / f"{hashlib.sha256(words.encode()).hexdigest()[:24]}.mp4"
        if output.is_file() and not again:
            show(MADE_BEFORE)
        else:
            kept = kept_by_seed(output.parent, identity(native, footage, options))
            for seed, count in kept.items():
                say(other_seed(seed, count))
            watcher = Watcher(native, " ".join(other_seed(*one) for one in kept.items()))
            edit_footage(native, footage, output, options, resume=True, callback=watcher.step, finished=watcher.window)
    return output


class Watcher:
    """Progress over the steps of all windows with the remaining time, a sampler's previews, and each window's last
    edited frame."""

    def __init__(self, native: NativeModel, note: str = "") -> None:
        """note: a sentence shown with every step."""
        self.facts = str(native.chosen)
        self.note, self.outside = note, native.outside
        self.began = time.monotonic()
        self.steps = 0  # of this run, without reused windows
        self.bar = comfy.utils.ProgressBar(1)
        self.previewer = latent_preview.get_previewer(native.model.load_device, native.model.model.latent_format)

    def step(self, at: LongProgress) -> None:
        picture = None
        if self.previewer is not None:
            picture = self.previewer.decode_latent_to_preview_image("JPEG", at.latents)
        done, total = (at.window - 1) * at.steps + at.step, at.windows * at.steps
        self.bar.update_absolute(done, total, picture)
        self.steps += 1
        left = (time.monotonic() - self.began) / self.steps * (total - done)
        words = f"window {at.window} of {at.windows}, {clock(left)} left ({self.facts})"
        notes = " ".join(filter(None, [self.note, *self.outside]))
        show(f"{words}. {notes}" if notes else words)

    def window(self, _number: int, frames: torch.Tensor) -> None:
        from PIL import Image

        picture = Image.fromarray(frames[-1].numpy())
        self.bar.update_absolute(
            self.bar.current, self.bar.total, ("JPEG", picture, latent_preview.MAX_PREVIEW_RESOLUTION)
        )


def native_of(
    model: ModelPatcher,
    vae: Any,
    instruction: str,
    settings: dict[str, Any],
    graph: dict[str, str] | None,
    is_video: bool,
) -> tuple[NativeModel, LongOptions]:
    """Convert sockets and menus to the library's window model and options.

    Raises:
        InputError: any of them cannot be used.
    """
    from ..instructx_core.long_video import LongOptions
    from .window_models import window_model

    options = LongOptions(
        window=Span(Fraction(settings["window"])) if settings["window"] else None,
        overlap=None if settings["overlap"] == USUAL_OVERLAP else Span(Fraction(settings["overlap"])),
        head=Head(settings["head"]),
        reading=Reading(settings["guidance_from"]),
        anchor_colour=settings["hold_colour"],
        cuts=_cuts(settings["cuts"]),
    )
    return window_model(model, vae, instruction, settings, graph, is_video), options


def _cuts(words: str) -> Cuts:
    return parse_cuts(words) if words.strip() else ()
