"""The kinds of native MODEL that edit here, told apart once: Wan's DiT (`wan`) and Stable Diffusion's UNet (`unet`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import unet, wan
from .conditioning import with_source as with_wan_source

if TYPE_CHECKING:
    import torch
    from comfy.model_patcher import ModelPatcher

    from .conditioning import Conditioning

is_unet = unet.is_unet


def check_model(model: ModelPatcher) -> None:
    """Raise InputError unless `model` is a Wan DiT, or a UNet that one of this pack's loaders prepared."""
    if not unet.is_unet(model):
        wan.check_wan(model)


def prepare(model: ModelPatcher) -> ModelPatcher:
    """`model` itself where a loader has attached a checkpoint, else a clone in the paper's form."""
    return model if unet.is_unet(model) else wan.prepare(model)


def with_source(model: ModelPatcher, conditioning: Conditioning, raw: torch.Tensor, strength: float) -> Conditioning:
    """Carry a source, raw latents as the MODEL's VAE gives them, in every entry of a conditioning."""
    if unet.is_unet(model):
        return unet.with_channels(conditioning, raw, strength)
    return with_wan_source(model, conditioning, raw, strength)


def patch(model: ModelPatcher) -> int:
    """Latent positions that one place of the network spans, on either side."""
    return 1 if unet.is_unet(model) else model.model.diffusion_model.patch_size[1]


def latent_axes(model: ModelPatcher) -> int:
    """Axes of its LATENT: [B, C, h, w], and time before h for a DiT of videos."""
    return 4 if unet.is_unet(model) else 5
