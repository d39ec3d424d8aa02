"""Pixels <-> normalised latents: the interface of all codecs, and Wan's VAE.

Encoding takes the mean of the posterior, as Wan does for conditions. Strides come from the VAE's config; nothing in the
library assumes 8 and 4.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from .compat import count_of_changes, spatial_padding
from .results import check_numbers

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan

ENCODED_CHUNK = 4  # frames per chunk that diffusers' Wan VAE encodes after the first, whatever its temporal stride


class Codec(nn.Module, ABC):
    """A VAE between frames in [0, 1] and latents normalised with a mean and standard deviation per channel."""

    temporal_stride: int  # frames per latent frame, except for the first, which is one frame
    frame_multiple: int  # clips have 1 + n * frame_multiple frames

    def __init__(self, vae: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.vae = vae
        # not saved with the weights: the VAE's config.json has these values
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1, 1), persistent=False)

    @property
    @abstractmethod
    def channels(self) -> int:
        """Number of latent channels."""

    @property
    @abstractmethod
    def stride(self) -> int:
        """Side of a latent position in pixels."""

    @abstractmethod
    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        """[B, T, H, W, 3] in [0, 1], T = 1 + n * frame_multiple -> normalised [B, C, t, H / stride, W / stride]."""

    @abstractmethod
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Normalised [B, C, t, h, w] -> float32 [B, T, H, W, 3] in [0, 1].

        Raises:
            CheckpointError: the VAE gave NaN or infinity.
        """

    def normalise(self, raw: torch.Tensor) -> torch.Tensor:
        """Raw VAE latents -> float32 with mean 0 and standard deviation 1 per channel."""
        return (raw.float() - self.mean) / self.std

    def denormalise(self, normalised: torch.Tensor) -> torch.Tensor:
        """The inverse of `normalise`."""
        return normalised.float() * self.std + self.mean


class LatentCodec(Codec):
    """`AutoencoderKLWan`."""

    def __init__(self, vae: AutoencoderKLWan) -> None:
        super().__init__(skip_empty_taps(vae), vae.config.latents_mean, vae.config.latents_std)

    @property
    def channels(self) -> int:
        return self.vae.config.z_dim

    @property
    def stride(self) -> int:
        return self.vae.config.scale_factor_spatial

    @property
    def temporal_stride(self) -> int:
        return self.vae.config.scale_factor_temporal

    @property
    def frame_multiple(self) -> int:
        return math.lcm(ENCODED_CHUNK, self.temporal_stride)

    @torch.no_grad()
    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        pixels = rearrange(frames, "b t h w c -> b c t h w").to(self.vae.dtype) * 2 - 1  # [-1, 1]
        # the mean, not a sample: the same source gives the same condition in every run
        return self.normalise(self.vae.encode(pixels).latent_dist.mode())  # [B, C, t, h, w]

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        pixels = self.vae.decode(self.denormalise(latents).to(self.vae.dtype), return_dict=False)[0]
        check_numbers(pixels, "while decoding")
        # decoders overshoot at sharp edges
        return rearrange(pixels.float() / 2 + 0.5, "b c t h w -> b t h w c").clamp(0, 1)


def skip_empty_taps(vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """Make causal convolutions skip, in place, the taps that contribute nothing: on padding only, or of zero weight.

    The past of an image, or of a first frame, is padding. A VAE trained only on images has zero weights on the past.
    The result is the same up to rounding, in about a third of the time.
    """
    from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d

    for module in vae.modules():
        if type(module) is WanCausalConv3d and module.kernel_size[0] == 3 and module.stride[0] == 1:
            module.forward = _PresentForward(module)
    return vae


class _PresentForward:
    """`WanCausalConv3d.forward` with a two-dimensional shortcut for when only the current frame contributes."""

    def __init__(self, convolution: nn.Conv3d) -> None:
        self.convolution = convolution
        self.padded = type(convolution).forward
        self.checked_version = -1
        self.ignores_past = False

    def __call__(self, x: torch.Tensor, cache_x: torch.Tensor | None = None) -> torch.Tensor:
        own = self.convolution
        still = cache_x is None and x.shape[2] == 1  # one frame and nothing cached: all before it is padding
        if not (still or self._ignores_past()):
            return self.padded(own, x, cache_x)
        # the last of three taps in time is the one that sees the current frame
        frames = rearrange(x, "b c t h w -> (b t) c h w")
        frames = F.conv2d(frames, own.weight[:, :, -1], own.bias, own.stride[1:], spatial_padding(own))
        return rearrange(frames, "(b t) c h w -> b c t h w", b=len(x))

    def _ignores_past(self) -> bool:
        """Whether all weights on earlier frames are zero; rechecked only after the weights have changed."""
        weight = self.convolution.weight
        version = count_of_changes(weight)
        if version != self.checked_version:
            self.checked_version = version
            self.ignores_past = not bool(weight[:, :, :-1].any())
        return self.ignores_past
