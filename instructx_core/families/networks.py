"""Denoising networks, by the config's `network` field: the titles of their parts and the classes that wrap them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..backbone import Backbone
from ..config import ModelConfig, Network
from ..denoiser import Denoiser
from ..denoiser_pair import DenoiserPair
from ..image_latents import ImageCodec
from ..latents import Codec, LatentCodec
from ..unet_denoiser import UNetDenoiser
from ..weights.detect import Form
from ..weights.networks import load_autoencoder
from ..weights.parts import Part


@dataclass(frozen=True)
class NetworkKind:
    """A row of `NETWORKS`."""

    titles: dict[Part, str]  # as `Form.title`
    denoiser: Callable[[Any, ModelConfig], Backbone]
    codec: Callable[[Any], Codec]
    takes_extras: bool  # LoRA files, fp8, other attention, compiled blocks, step caches: for Wan's DiT only


NETWORKS = {
    Network.WAN: NetworkKind(
        {Part.DIT: "Wan DiT", Part.VAE: "Wan VAE"},
        lambda dit, config: Denoiser(dit, config.denoiser, config.connector.entry, config.source_prediction),
        LatentCodec,
        takes_extras=True,
    ),
    Network.UNET: NetworkKind(
        {Part.DIT: "Stable Diffusion UNet", Part.VAE: "Stable Diffusion VAE"},
        lambda unet, config: UNetDenoiser(unet, config.denoiser),
        ImageCodec,
        takes_extras=False,
    ),
}


def network_kind(config: ModelConfig) -> NetworkKind:
    """The kind of network that denoises in a model."""
    return NETWORKS[config.denoiser.network]


def make_denoiser(config: ModelConfig, network: nn.Module, second: nn.Module | None = None) -> Backbone:
    """Wrap one network, or a pair, as the model's denoiser."""
    made = [network_kind(config).denoiser(one, config) for one in (network, second) if one is not None]
    return made[0] if second is None else DenoiserPair(*made, config.denoiser.boundary)


def load_codec(form: Form, dtype: torch.dtype) -> Codec:
    """Load only a VAE, for encoding before a model is loaded.

    Raises:
        CheckpointError: as `load_autoencoder`.
    """
    kind = next(kind for kind in NETWORKS.values() if kind.titles[Part.VAE] == form.title)
    return kind.codec(load_autoencoder(form, dtype))
