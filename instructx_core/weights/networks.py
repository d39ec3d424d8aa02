"""The denoiser and its VAE: Wan's or Stable Diffusion's, depending on a form's tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from . import dit, unet, vae
from .detect import Form
from .parts import Names

if TYPE_CHECKING:
    from torch import nn


def load_network(form: Form, dtype: torch.dtype, sizes: Form | None = None, packed: bool = False) -> nn.Module:
    """See `dit.load_dit`."""
    return unet.load_unet(form, dtype) if form.names is Names.UNET else dit.load_dit(form, dtype, sizes, packed)


def checked_network(form: Form, sizes: Form | None = None) -> nn.Module:
    """See `dit.checked_dit`."""
    return unet.checked_unet(form) if form.names is Names.UNET else dit.checked_dit(form, sizes)


def network_sizes(form: Form) -> dit.DitSizes:
    """See `dit.dit_sizes`."""
    if form.names is not Names.UNET:
        return dit.dit_sizes(form)
    config = unet.unet_config(form)
    return dit.DitSizes(config["block_out_channels"][0], config["out_channels"], config["cross_attention_dim"])


def load_autoencoder(form: Form, dtype: torch.dtype) -> nn.Module:
    """See `vae.load_vae`."""
    return unet.load_kl(form, dtype) if form.names is Names.KL else vae.load_vae(form, dtype)


def checked_autoencoder(form: Form) -> nn.Module:
    """See `vae.checked_vae`."""
    return unet.checked_kl(form) if form.names is Names.KL else vae.checked_vae(form)


def latent_channels(form: Form) -> int:
    """See `vae.vae_channels`."""
    return unet.kl_config(form)["latent_channels"] if form.names is Names.KL else vae.vae_channels(form)
