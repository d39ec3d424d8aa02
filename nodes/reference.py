"""InstructX Reference: show the DiT an image of the subject that the instruction mentions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io

from ..instructx_core.config import Margin
from ..instructx_core.errors import InputError
from . import categories, references
from .masks import check_painted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from comfy.model_patcher import ModelPatcher

    from .conditioning import Conditioning

WHOLE, FILL, STRETCH = "whole picture", "fill the frame", "stretch"


class InstructXReference(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InstructXReference",
            display_name="InstructX Reference",
            category=categories.CONDITIONING,
            description=(
                "Give the DiT reference images, after InstructX Source. Connect the same images to "
                "InstructX MLLM Guidance. Chain this node to give each reference its own mask or "
                "strength."
            ),
            search_aliases=["instructx", "subject", "reference", "mask", "segment"],
            inputs=[
                io.Model.Input("model", tooltip="From InstructX Source, or the previous InstructX Reference."),
                io.Conditioning.Input(
                    "positive", tooltip="From InstructX Source, or the previous InstructX Reference."
                ),
                io.Conditioning.Input(
                    "negative", tooltip="From InstructX Source, or the previous InstructX Reference."
                ),
                io.Vae.Input("vae", tooltip="The VAE that encoded the source."),
                io.Image.Input("reference", tooltip="A reference image of any size. A batch gives several."),
                io.Combo.Input(
                    "fit_mode",
                    options=[WHOLE, FILL, STRETCH],
                    default=WHOLE,
                    tooltip=(
                        "How the reference is placed in the source's frame: whole, with the margin that the "
                        "model was trained with; cropped to fill it; or stretched."
                    ),
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="How strongly the DiT sees the reference. 1: as trained.",
                    advanced=True,
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="The subject. Everything outside the mask turns grey before the DiT sees it.",
                ),
                references.further(),
            ],
            outputs=[
                io.Model.Output(display_name="MODEL", tooltip="The MODEL that came in; it already takes references."),
                io.Conditioning.Output(display_name="positive", tooltip="With the reference."),
                io.Conditioning.Output(display_name="negative", tooltip="With the reference."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        positive: Conditioning,
        negative: Conditioning,
        vae: Any,
        reference: torch.Tensor,
        fit_mode: str,
        strength: float = 1.0,
        mask: torch.Tensor | None = None,
        further: io.Autogrow.Type | None = None,
    ) -> io.NodeOutput:
        from .natives import is_unet
        from .wan import prepare

        if is_unet(model):
            raise InputError(
                "The MODEL is a Stable Diffusion UNet, not Wan, and takes no references; leave InstructX Reference out."
            )
        images = references.every(reference, further)
        return io.NodeOutput(*add_references(prepare(model), positive, negative, vae, images, fit_mode, strength, mask))


def add_references(
    model: ModelPatcher,
    positive: Conditioning,
    negative: Conditioning,
    vae: Any,
    images: Sequence[torch.Tensor],
    fit_mode: str = WHOLE,
    strength: float = 1.0,
    mask: torch.Tensor | None = None,
) -> tuple[ModelPatcher, Conditioning, Conditioning]:
    """Append every image [H, W, 3] to both conditionings, at the source's size.

    Args:
        mask: for one reference, or one per reference; the last is also used for all after it. Several masks of one
            reference are merged.

    Raises:
        InputError: no source in the conditioning, a VAE other than the source's, more masks than references, or a mask
            of a different size.
    """
    from ..instructx_core.fit import own_size
    from .conditioning import source_shape, with_reference
    from .denoising import denoising, is_streamed
    from .pixels import mask_of
    from .vae import check_vae, strides

    check_vae(model, vae)
    shape = source_shape(positive)
    if shape is None:
        raise InputError("The conditioning has no source yet; put InstructX Source before InstructX Reference.")
    stride = strides(vae).space
    canvas = (shape[3] * stride, shape[4] * stride)
    config = denoising(model).config
    margin, longest = config.denoiser.reference_margin, max(config.default_size)
    if mask is not None:
        mask = mask_of(mask)
        if len(images) == 1:
            mask = mask.amax(0, keepdim=True)  # segmenters return one mask per object of a picture
        elif len(mask) > len(images):
            raise InputError(
                f"There are {len(mask)} masks for {len(images)} references; give one mask per reference, or chain one "
                "InstructX Reference per reference."
            )
    for index, image in enumerate(images):
        if mask is not None:
            image = subject_only(image, mask[min(index, len(mask) - 1)])
        if is_streamed(model) and fit_mode == WHOLE:
            placed = own_size(image, (stride * model.model.diffusion_model.patch_size[1], longest))
        else:
            placed = place(image, canvas, fit_mode, margin)
        raw = vae.encode(placed[None])
        positive = with_reference(model, positive, raw, strength)
        negative = with_reference(model, negative, raw, strength)
    return model, positive, negative


def place(image: torch.Tensor, canvas: tuple[int, int], fit_mode: str, margin: Margin) -> torch.Tensor:
    """Place a reference [H, W, 3] in the source's frame, [*canvas, 3]; `margin` surrounds it if it is shown whole."""
    from ..instructx_core.fit import fit_reference, pad_reference, resize

    if fit_mode == WHOLE:
        return pad_reference(image, canvas) if margin is Margin.WHITE else fit_reference(image, canvas)
    if fit_mode == FILL:
        image = _cut_to_aspect(image, canvas[0] / canvas[1])
    return resize(image[None], canvas)[0]


def subject_only(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """`image` [H, W, 3] where the mask [H, W] is 1, grey where it is 0.

    Raises:
        InputError: a mask that has a different size or was never painted.
    """
    check_painted(mask, tuple(image.shape[:2]))
    if mask.shape != image.shape[:2]:
        raise InputError(
            f"The mask is {mask.shape[1]} x {mask.shape[0]}, but the reference is {image.shape[1]} x"
            f" {image.shape[0]}; give a mask of the reference itself."
        )
    weight = mask.to(image)[..., None]
    return image * weight + 0.5 * (1 - weight)


def _cut_to_aspect(image: torch.Tensor, aspect: float) -> torch.Tensor:
    """Centre-crop `image` to the largest part with height / width = `aspect`."""
    height, width = image.shape[:2]
    kept = (min(height, max(1, round(width * aspect))), min(width, max(1, round(height / aspect))))
    top, left = (height - kept[0]) // 2, (width - kept[1]) // 2
    return image[top : top + kept[0], left : left + kept[1]]
