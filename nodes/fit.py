"""InstructX Fit and Restore: scale any source to the model's size and length, and exactly back."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io

from ..instructx_core.compositing import composite, restore_edit, without_loss
from ..instructx_core.config import Detail
from ..instructx_core.detail import parse_detail, sharpened
from ..instructx_core.errors import InputError
from . import categories
from .denoising import denoising
from .masks import for_frames
from .menus import problem
from .natives import check_model, patch
from .notes import show
from .pixels import OVERFLOWED, Clip, mask_of, rgb, to_clip, to_video
from .sockets import Fit, FitValue

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy_api.latest import Input

    from ..instructx_core.fit import Fit as FitPlan

MAX_SIDE = 8192
MULTIPLE = 8  # pixels: every model needs sides that are multiples of this
AUTO, VIDEO, PICTURES = "auto", "one video", "separate pictures"
FRAME_RATE = Fraction(16)  # Wan's, for a VIDEO made from images without a frame rate


class InstructXFit(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InstructXFit",
            display_name="InstructX Fit",
            category=categories.IMAGE,
            description=(
                "Scale a picture or a video to a size and length that the model accepts. Nothing is "
                "cropped; InstructX Restore undoes it."
            ),
            search_aliases=["instructx", "resize", "pad", "frames"],
            inputs=[
                io.Model.Input("model", tooltip="The model to fit to: its training size sets the working size."),
                io.Vae.Input("vae", tooltip="The VAE to fit to: it sets the possible sizes and lengths."),
                io.MultiType.Input("source", [io.Image, io.Video], tooltip="Any size, any length."),
                io.Int.Input(
                    "width",
                    default=0,
                    min=0,
                    max=MAX_SIDE,
                    step=8,
                    tooltip="Working width. 0: the model's training area in the source's aspect ratio.",
                ),
                io.Int.Input(
                    "height",
                    default=0,
                    min=0,
                    max=MAX_SIDE,
                    step=8,
                    tooltip="Working height. 0: the model's training area in the source's aspect ratio.",
                ),
                io.Combo.Input(
                    "batch",
                    options=[AUTO, VIDEO, PICTURES],
                    default=AUTO,
                    optional=True,  # missing in older graphs
                    tooltip=(
                        "How to read several frames: as one video, or as separate pictures that are edited "
                        "one by one. auto reads them as a video; the node shows its choice."
                    ),
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="IMAGE",
                    tooltip="The frames at the model's size. A list for separate pictures.",
                    is_output_list=True,
                ),
                Fit.Output(
                    display_name="FIT",
                    tooltip="How to undo the scaling. For InstructX Restore and InstructX MLLM Guidance.",
                    is_output_list=True,
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, width: int | None = None, height: int | None = None) -> bool | str:
        return True if width is None or height is None else problem(check_size, width, height)

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        vae: Any,
        source: torch.Tensor | Input.Video,
        width: int,
        height: int,
        batch: str = AUTO,
    ) -> io.NodeOutput:
        clip = to_clip(source)
        clips = pictures(clip) if batch == PICTURES else [replace(clip, is_video=clip.is_video or batch == VIDEO)]
        fits = [
            replace(plan(model, vae, one, width, height), index=index, count=len(clips))
            for index, one in enumerate(clips)
        ]
        show(taken(fits, batch))
        return io.NodeOutput([fit.plan.apply(one.frames) for fit, one in zip(fits, clips, strict=True)], fits)


class InstructXRestore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InstructXRestore",
            display_name="InstructX Restore",
            category=categories.IMAGE,
            description=("Bring edited frames back to the exact size and length that went into InstructX Fit."),
            search_aliases=["instructx", "resize", "unpad"],
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip=(
                        "The edited frames, from VAE Decode. Several tries in a batch come out one after the other."
                    ),
                ),
                Fit.Input("fit", tooltip="From InstructX Fit."),
                io.Boolean.Input(
                    "keep_source",
                    default=True,
                    tooltip=(
                        "Keep the source's pixels where the edit changed almost nothing, as far as the "
                        "checkpoint asks for it."
                    ),
                    advanced=True,
                ),
                io.Combo.Input(
                    "detail",
                    options=[detail.value for detail in Detail],
                    default=Detail.SOURCE.value,
                    optional=True,  # missing in older graphs
                    tooltip=(
                        "For a source larger than the model's working size. source: its own detail, "
                        "recoloured by the edit. model: the model's result, enlarged."
                    ),
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip=(
                        "Use the edit only here; everywhere else the source stays bit for bit. A mask of the "
                        "picture that went into InstructX Fit: one for all frames, or one per frame."
                    ),
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="IMAGE",
                    tooltip="The edit at the source's size and length. Several tries come one after the other.",
                ),
                io.Video.Output(
                    display_name="VIDEO",
                    tooltip=(
                        "The same as a video with the source's frame rate and sound (16 frames a second for "
                        "plain images)."
                    ),
                ),
                io.Audio.Output(
                    display_name="AUDIO", tooltip="The source's sound; empty if it has none, as for plain images."
                ),
                io.Float.Output(display_name="FPS", tooltip="The frame rate of VIDEO, in frames a second."),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        fit: FitValue,
        keep_source: bool = True,
        detail: str = Detail.SOURCE.value,
        mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        whose = parse_detail(detail)
        if image.ndim == 5:  # [tries, T, H, W, 3], from a video VAE
            image = image.flatten(0, 1)
        image = rgb(image, "edited image", OVERFLOWED)
        count, height, width = fit.plan.padded_frames, *fit.plan.canvas
        if tuple(image.shape[1:3]) != (height, width) or len(image) % count:
            raise InputError(
                f"The image is {len(image)} frames of {image.shape[2]} x {image.shape[1]}, but the FIT is for {count}"
                f" of {width} x {height} (or several edits of that length); connect the edit of that InstructX Fit's"
                " IMAGE, and upscale only after InstructX Restore."
            )
        if mask is not None:
            mask = for_frames(fit.own_mask(mask_of(mask)), fit.plan.frames, fit.plan.size)
        share = fit.kept_share if keep_source else 0.0
        takes_back_loss = fit.kept_share and (share or whose is Detail.SOURCE)  # as for the windows of a long video
        shown = takes_back_loss or (whose is Detail.SOURCE and fit.plan.shrinks)
        fitted = fit.plan.apply(fit.source) if shown else None
        coded = None
        if takes_back_loss:
            coded = fit.vae.decode(fit.vae.encode(fitted)).flatten(0, -4).float().cpu()
        edits = []
        for decoded in image.split(count):
            if coded is not None:
                decoded = sharpened(fitted, without_loss(fitted, coded, decoded))
            if fitted is None:
                edit = fit.plan.restore(decoded)
            else:
                edit = restore_edit(fit.plan, fit.source, fitted, decoded, share, whose)
            edits.append(edit if mask is None else composite(fit.source, edit, mask))
        frames = torch.cat(edits)
        rate = fit.frame_rate or FRAME_RATE
        audio = repeated(fit.audio, len(edits), fit.plan.frames / rate)
        return io.NodeOutput(frames, to_video(frames, rate, audio), audio, float(rate))


def pictures(clip: Clip) -> list[Clip]:
    """Split a clip into its frames, each a separate picture."""
    return [Clip(frame[None], is_video=False) for frame in clip.frames]


def taken(fits: list[FitValue], batch: str) -> str:
    """Describe to the user how a source was read: one picture, several, or a video, and its working size."""
    first = fits[0]
    height, width = first.plan.canvas
    if len(fits) > 1:
        what = f"{len(fits)} pictures, one after the other"
    elif not first.is_video:
        what = "one picture"
    else:
        what = f"one video of {first.plan.frames} frames"
        if batch == AUTO and first.frame_rate is None:
            what += f' (for separate pictures set batch to "{PICTURES}")'
    return f"{what}, at {width} x {height}"


def check_size(width: int, height: int) -> None:
    """Raise InputError for a working size that no model accepts; 0 for both is the model's own size.

    A model's exact multiple is known only after loading; all are multiples of 8.
    """
    from ..instructx_core.fit import check_canvas

    if bool(width) != bool(height):
        raise InputError("width and height go together; give both, or 0 for both.")
    if width:
        check_canvas((height, width), MULTIPLE)


def repeated(audio: dict[str, Any] | None, count: int, seconds: Fraction) -> dict[str, Any] | None:
    """AUDIO repeated for `count` consecutive edits of one clip, each `seconds` long."""
    if audio is None or count == 1:
        return audio
    length = round(seconds * audio["sample_rate"])
    waveform = audio["waveform"][..., :length]
    once = torch.nn.functional.pad(waveform, (0, length - waveform.shape[-1]))
    return audio | {"waveform": once.repeat(1, 1, count)}


def plan(model: ModelPatcher, vae: Any, clip: Clip, width: int, height: int) -> FitValue:
    """Plan how a clip fits the model; width and height are 0 for the model's own size.

    Raises:
        InputError: width without height, or a side that is not a multiple of the model's stride.
    """
    if bool(width) != bool(height):
        raise InputError("width and height go together; give both, or 0 for both.")
    placed = lay(model, vae, len(clip.frames), tuple(clip.frames.shape[1:3]), (height, width) if width else None)
    share = denoising(model).config.keep_source
    return FitValue(placed, clip.is_video, clip.frame_rate, clip.audio, clip.frames, share, vae)


def lay(
    model: ModelPatcher, vae: Any, frames: int, size: tuple[int, int], canvas: tuple[int, int] | None = None
) -> FitPlan:
    """Plan how `frames` frames of (height, width) fit the model; see the library's `plan_fit`.

    Raises:
        InputError: a MODEL that cannot edit, a VAE that does not match it, a canvas whose sides are not multiples of
            the model's stride, or a source that is too narrow.
    """
    from ..instructx_core.fit import check_aspect, plan_fit
    from .vae import check_vae, strides

    check_model(model)
    check_vae(model, vae)
    own = strides(vae)
    trained = denoising(model).config.default_size
    fit = plan_fit(frames, size, own.space * patch(model), own.frame_multiple, trained[0] * trained[1], canvas)
    check_aspect(size, fit.inner)
    return fit
