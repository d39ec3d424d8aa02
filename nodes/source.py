"""InstructX Source: show the DiT the source that it edits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io

from ..instructx_core.errors import InputError
from . import categories
from .sockets import Fit

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from .conditioning import Conditioning
    from .sockets import FitValue


class InstructXSource(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InstructXSource",
            display_name="InstructX Source",
            category=categories.CONDITIONING,
            description=(
                "Show the DiT the source. Use the MODEL and both conditionings from here together: a "
                "MODEL that skips this node ignores the source."
            ),
            search_aliases=[
                "instructx",
                "edit image",
                "edit video",
                "video to video",
                "instruct pix2pix",
                "inpaint",
                "mask",
            ],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip=(
                        "From InstructX Load Model or InstructX Load Adapter. Any other Wan MODEL takes the "
                        "source as in the paper."
                    ),
                ),
                io.Conditioning.Input("positive", tooltip="From InstructX Connector."),
                io.Conditioning.Input("negative", tooltip="From InstructX Connector."),
                io.MultiType.Input(
                    "source",
                    [io.Image, io.Latent],
                    tooltip="The frames from InstructX Fit, or their LATENT from the VAE.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="How strongly the DiT sees the source. 1: as trained.",
                    advanced=True,
                ),
                io.Vae.Input("vae", optional=True, tooltip="Needed if the source is an IMAGE."),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip=(
                        "Edit only here; sampling keeps the rest of the LATENT at the source. A mask of the "
                        "picture that went into InstructX Fit (connect its FIT) or of the frames that came "
                        "out. Connect it to InstructX Restore too, and the rest stays bit for bit."
                    ),
                ),
                Fit.Input(
                    "fit", optional=True, tooltip="From InstructX Fit: how to place a mask of the original picture."
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="MODEL",
                    tooltip="A MODEL that uses the source. The one that came in stays unchanged.",
                ),
                io.Conditioning.Output(display_name="positive", tooltip="With the source."),
                io.Conditioning.Output(display_name="negative", tooltip="With the source."),
                io.Latent.Output(
                    display_name="LATENT", tooltip="The source's latent, to sample. At denoise 1 only its size matters."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        positive: Conditioning,
        negative: Conditioning,
        source: torch.Tensor | dict[str, Any],
        strength: float = 1.0,
        vae: Any = None,
        mask: torch.Tensor | None = None,
        fit: FitValue | None = None,
    ) -> io.NodeOutput:
        from .masks import warn_if_empty
        from .natives import prepare, with_source
        from .pixels import rgb
        from .vae import check_vae, encode

        patched = prepare(model)
        if isinstance(source, dict):
            latent = source
            check_latent(patched, latent["samples"])
        else:
            if vae is None:
                raise InputError(
                    "The source is an IMAGE, but no VAE is connected; connect the VAE, or a LATENT as source."
                )
            check_vae(patched, vae)
            latent = {"samples": encode(vae, rgb(source, "source"), patched)}
        raw = latent["samples"]
        if mask is not None:
            latent = latent | {"noise_mask": noise_mask(patched, raw, mask, fit)}
            warn_if_empty(latent["noise_mask"])
        return io.NodeOutput(
            patched,
            with_source(patched, positive, raw, strength),
            with_source(patched, negative, raw, strength),
            latent,
        )


def noise_mask(model: ModelPatcher, raw: torch.Tensor, mask: torch.Tensor, fit: FitValue | None = None) -> torch.Tensor:
    """ComfyUI's noise mask [1 or B, 1, t, h, w] for a source's raw latents; [1 or B, 1, h, w] for a UNet's.

    As many masks as pictures in a batch are one for each; any others are objects of every picture.

    Raises:
        InputError: the mask's size or number of frames does not match the source.
    """
    from ..instructx_core.compositing import on_canvas
    from .masks import for_frames, over_latent
    from .pixels import mask_of
    from .vae import WAN_CHUNK

    whole = mask_of(mask) if fit is None else fit.own_mask(mask_of(mask))
    if raw.ndim == 4 or raw.shape[2] == 1:
        if len(whole) == len(raw) > 1:
            each = zip(raw, whole, strict=True)
            return torch.cat([noise_mask(model, picture[None], own[None], fit) for picture, own in each])
        whole = whole.amax(0, keepdim=True)  # one mask per object of a picture
    if fit is not None:
        plan = fit.plan
        fits_source = tuple(whole.shape[1:]) == tuple(plan.size) and len(whole) in (1, plan.frames)
        if fits_source or tuple(whole.shape[1:]) != tuple(plan.canvas):
            whole = on_canvas(for_frames(whole, plan.frames, plan.size), plan)
    scale = model.model.latent_format
    if raw.ndim == 4:  # pictures
        return over_latent(whole, raw[:, :, None].shape, scale.spacial_downscale_ratio, 1)[:, :, 0]
    time = getattr(scale, "temporal_downscale_ratio", WAN_CHUNK)  # ComfyUI's own formats lack it up to 0.15
    return over_latent(whole, raw.shape, scale.spacial_downscale_ratio, time)


def check_latent(model: ModelPatcher, samples: torch.Tensor) -> None:
    """Raise InputError unless a LATENT has the MODEL's shape and is finite."""
    from .natives import check_one_medium, latent_axes

    check_one_medium(samples, "The source LATENT")
    taken, axes = model.model.latent_format.latent_channels, latent_axes(model)
    if samples.ndim != axes or samples.shape[1] != taken:
        time = "time, " if axes == 5 else ""
        raise InputError(
            f"The source LATENT has shape {tuple(samples.shape)}, but the MODEL takes [batch, {taken},"
            f" {time}height,"
            " width]; encode the source with the MODEL's own VAE."
        )
    if not samples.isfinite().all():
        raise InputError("The source LATENT holds NaN or infinity; encode the source again, with a VAE in float32.")
