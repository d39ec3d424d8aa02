"""InstructX Source: what is being edited, put where the DiT sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io

from ..instructx_core.errors import InputError
from . import categories

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from .wan import Conditioning


class InstructXSource(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InstructXSource",
            display_name="InstructX Source",
            category=categories.CONDITIONING,
            description=(
                "Put the source where the DiT sees it. Use the MODEL and both conditionings that come out, together: "
                "a MODEL that has not been through here ignores the source."
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
        from .pixels import rgb
        from .vae import check_vae, encode
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
            latent = {"samples": encode(vae, rgb(source, "source"), patched)}
        raw = latent["samples"]
        return io.NodeOutput(
            patched,
            with_source(patched, positive, raw, strength),
            with_source(patched, negative, raw, strength),
            latent,
        )


def check_latent(model: ModelPatcher, samples: torch.Tensor) -> None:
    """Raise InputError unless a LATENT is of the MODEL's kind."""
    taken = model.model.latent_format.latent_channels
    if samples.ndim != 5 or samples.shape[1] != taken:
        raise InputError(
            f"The source LATENT has shape {tuple(samples.shape)}, the MODEL takes [batch, {taken}, time, height,"
            " width]; encode the source with the MODEL's own VAE."
        )
    if not samples.isfinite().all():
        raise InputError("The source LATENT holds NaN or infinity; encode the source again, with a VAE in float32.")
