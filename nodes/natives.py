"""Dispatch on the kinds of native MODEL that can edit: Wan's DiT (`wan`) and Stable Diffusion's UNet (`unet`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..instructx_core.errors import InputError
from . import unet, wan
from .conditioning import with_source as with_wan_source

if TYPE_CHECKING:
    import torch
    from comfy.model_patcher import ModelPatcher

    from .conditioning import Conditioning

is_unet = unet.is_unet


def check_model(model: ModelPatcher) -> None:
    """Raise InputError unless `model` is a Wan DiT, or a UNet prepared by one of this pack's loaders."""
    if not unet.is_unet(model):
        wan.check_wan(model)


def prepare(model: ModelPatcher) -> ModelPatcher:
    """`model` itself if a loader attached a checkpoint, else a clone with the paper's defaults attached."""
    return model if unet.is_unet(model) else wan.prepare(model)


def with_source(model: ModelPatcher, conditioning: Conditioning, raw: torch.Tensor, strength: float) -> Conditioning:
    """Add a source, raw latents from the MODEL's VAE, to every entry of a conditioning."""
    if unet.is_unet(model):
        return unet.with_channels(conditioning, raw, strength)
    return with_wan_source(model, conditioning, raw, strength)


def patch(model: ModelPatcher) -> int:
    """The network's patch size in latent positions, per side; 1 for a UNet."""
    return 1 if unet.is_unet(model) else model.model.diffusion_model.patch_size[1]


def check_one_medium(samples: torch.Tensor, name: str) -> None:
    """Raise InputError for the LATENT of a model of clips with sound: ComfyUI nests two tensors in it."""
    if samples.is_nested:
        raise InputError(f"{name} holds video and sound of another model; encode the source with the MODEL's own VAE.")


def latent_axes(model: ModelPatcher) -> int:
    """Number of axes of the MODEL's LATENT: [B, C, h, w] for a UNet, [B, C, t, h, w] for a video DiT."""
    return 4 if unet.is_unet(model) else 5
