"""InstructX Source: what is being edited, put where the DiT sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io

from ..instructx_core.errors import InputError
from . import text

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from .wan import Conditioning


class InstructXSource(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InstructXSource",
            display_name="InstructX Source",
            category=text.CONDITIONING,
            description=(
                "Put the source where the DiT sees it. Use the MODEL and both conditionings that come out, together: "
                "a MODEL that has not been through here ignores the source."
            ),
            search_aliases=["instructx", "video to video", "image edit"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip=(
                        "From InstructX Load Model or InstructX Load Adapter; any Wan MODEL works in the paper's form."
                    ),
                ),
                io.Conditioning.Input("positive", tooltip="From InstructX Connector."),
                io.Conditioning.Input("negative", tooltip="From InstructX Connector."),
                io.MultiType.Input(
                    "source",
                    [io.Image, io.Latent],
                    tooltip="The frames from InstructX Fit, or a LATENT that the VAE has already made of them.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="How strongly the DiT sees the source; 1 as trained.",
                    advanced=True,
                ),
                io.Vae.Input("vae", optional=True, tooltip="Needed where the source is an IMAGE."),
            ],
            outputs=[
                io.Model.Output(
                    display_name="MODEL", tooltip="The MODEL that uses the source; the one that came in is untouched."
                ),
                io.Conditioning.Output(display_name="positive", tooltip="With the source."),
                io.Conditioning.Output(display_name="negative", tooltip="With the source."),
                io.Latent.Output(
                    display_name="LATENT", tooltip="The source's latent: sample it (at denoise 1 only its size counts)."
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
    ) -> io.NodeOutput:
        from .wan import prepare, with_source

        patched = prepare(model)
        if isinstance(source, dict):
            latent = source
            check_latent(patched, latent["samples"])
        else:
            if vae is None:
                raise InputError(
                    "The source is an IMAGE but no VAE is connected; connect the VAE, or a LATENT instead."
                )
            check_vae(patched, vae)
            latent = {"samples": encode(vae, source, patched)}
        raw = latent["samples"]
        return io.NodeOutput(
            patched,
            with_source(patched, positive, raw, strength),
            with_source(patched, negative, raw, strength),
            latent,
        )


def encode(vae: Any, frames: torch.Tensor, model: ModelPatcher) -> torch.Tensor:
    """Frames [T, H, W, 3] -> raw latents [1, C, t, h, w].

    Raises:
        InputError: a size or length that the VAE or the DiT would cut.
    """
    from .codec_vae import strides

    own = strides(vae)
    stride = own.space * model.model.diffusion_model.patch_size[1]
    count, height, width = frames.shape[:3]
    if height % stride or width % stride or (count - 1) % own.frame_multiple:
        raise InputError(
            f"The source is {count} frames of {width} x {height}; the model takes sides in multiples of {stride} and "
            f"1 + n * {own.frame_multiple} frames: put InstructX Fit before this node."
        )
    return vae.encode(frames[..., :3])


def check_vae(model: ModelPatcher, vae: Any) -> None:
    """Raise InputError unless the VAE makes latents of the MODEL's kind."""
    from .codec_vae import strides

    channels, taken = strides(vae).channels, model.model.latent_format.latent_channels
    if channels != taken:
        raise InputError(
            f"The VAE makes latents of {channels} channels, the MODEL takes {taken}; connect the VAE that belongs to"
            " the MODEL (Wan 2.1: 16 channels, Wan 2.2 5B: 48)."
        )


def check_latent(model: ModelPatcher, samples: torch.Tensor) -> None:
    """Raise InputError unless a LATENT is of the MODEL's kind."""
    taken = model.model.latent_format.latent_channels
    if samples.ndim != 5 or samples.shape[1] != taken:
        raise InputError(
            f"The source LATENT has shape {tuple(samples.shape)}, the MODEL takes [batch, {taken}, time, height,"
            " width]; encode the source with the MODEL's own VAE."
        )
